// The draw of a token, in f64, from logits that penalties and bias have been applied to.
import type { SamplingParams } from "../../src/kernels/sampling-params";

/** Ids in the order of logits, the lower first of equals, as far as top-k, top-p and min-p keep them. */
export function keptTokens(logits: ArrayLike<number>, { temperature, topK, topP, minP }: SamplingParams): number[] {
  const logit = (id: number) => logits[id] ?? Number.NaN;
  const order = Array.from(logits, (_, id) => id).sort((a, b) => logit(b) - logit(a) || a - b);
  const highest = logit(order[0] ?? 0);
  const weight = (id: number) => Math.exp((logit(id) - highest) / temperature);
  const best = topK > 0 ? order.slice(0, topK) : order;
  const mass = best.reduce((sum, id) => sum + weight(id), 0);
  let before = 0;
  const nucleus = best.filter((id, place) => {
    const isIn = place === 0 || topP >= 1 || before < topP * mass;
    before += weight(id);
    return isIn;
  });
  return nucleus.filter((id) => weight(id) >= minP);
}

/** The token with the highest score of those kept, and its lead over the next: where it is tiny, f32 may see it otherwise. */
export function samplePickReference(logits: ArrayLike<number>, params: SamplingParams, step: number): { token: number; lead: number } {
  const score = (id: number) => {
    const logit = logits[id] ?? Number.NaN;
    return params.temperature === 0 ? logit : logit / params.temperature + gumbel(params.seed, step, id);
  };
  const kept = params.temperature === 0 ? Array.from(logits, (_, id) => id) : keptTokens(logits, params);
  let best = { token: -1, score: Number.NEGATIVE_INFINITY };
  let second = Number.NEGATIVE_INFINITY;
  for (const id of kept) {
    const value = score(id);
    if (value > best.score || (value === best.score && id < best.token)) {
      second = best.score;
      best = { token: id, score: value };
    } else second = Math.max(second, value);
  }
  return { token: best.token, lead: best.score - second };
}

/** Gumbel noise of a token: −ln(−ln(1 − u)), u uniform from a hash. */
export function gumbel(seed: number, step: number, id: number): number {
  const u = Math.min((hash([seed, Math.floor(seed / 2 ** 32), step, id]) + 0.5) / 2 ** 32, 1 - 2 ** -24);
  return -Math.log(-Math.log1p(-u));
}

/** PCG4D (Jarzynski and Olano, "Hash Functions for GPU Rendering", 2020), two of its words combined. */
function hash(key: readonly [number, number, number, number]): number {
  let [x, y, z, w] = key.map((word) => (Math.imul(word, 1664525) + 1013904223) | 0) as [number, number, number, number];
  const mix = () => {
    x = (x + Math.imul(y, w)) | 0;
    y = (y + Math.imul(z, x)) | 0;
    z = (z + Math.imul(x, y)) | 0;
    w = (w + Math.imul(y, z)) | 0;
  };
  mix();
  x ^= x >>> 16;
  y ^= y >>> 16;
  z ^= z >>> 16;
  w ^= w >>> 16;
  mix();
  return (x ^ w) >>> 0;
}
