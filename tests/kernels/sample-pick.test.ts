import { describe, expect, test } from "vitest";
import { SAMPLE_STOP } from "../../src/kernels/sample-pick";
import { IN_PROMPT, type SamplingParams } from "../../src/kernels/sampling-params";
import { sampleCandidatesReference } from "../reference/sample-candidates";
import { gumbel, keptTokens, samplePickReference } from "../reference/sample-pick";
import { expectSame } from "../support/expect-close";
import { longTest } from "../support/long-test";
import { type Random, seededRandom } from "../support/random";
import { runSampling, runSamplingRows, type SampledRow, type SamplingRunInput } from "../support/sampling-run";
import { getTestGpu } from "../support/test-gpu";

const OFF: SamplingParams = {
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  seed: 1,
};
const NO_TOKEN = 0xffffffff;
// Scores are f32: where two lead by less, either may win.
const NEAR_TIE = 1e-4;

/** A vocabulary as a model sees it: a few tokens that matter, many that hardly do. */
function modelLogits(random: Random, vocab: number): Float32Array<ArrayBuffer> {
  const logits = random.normal([vocab], 2.5);
  for (let i = 0; i < 12; i++) logits[random.integer(vocab)] = 8 + 6 * random.next();
  return logits;
}

/** Draws `steps` tokens and holds each against the reference. */
async function expectReference(input: SamplingRunInput): Promise<number[]> {
  const { logits, params, steps = 1 } = input;
  const bias = input.bias ?? new Float32Array(logits.length);
  const counts = input.counts ?? new Uint32Array(logits.length);
  const { results } = await runSampling(await getTestGpu(), input);
  const adjusted = sampleCandidatesReference({ logits, bias, counts, params });
  for (let step = 0; step < steps; step++) {
    const { token, lead } = samplePickReference(adjusted, params, step);
    const drawn = results[step]?.[0];
    if (drawn !== token && lead > NEAR_TIE) {
      expect.fail(
        `step ${step}: drew ${drawn} (logit ${adjusted[drawn ?? 0]}), expected ${token} (logit ${adjusted[token]}), which leads by ${lead}`,
      );
    }
  }
  return results.map(([token]) => token);
}

describe("draws are the reference's", () => {
  const FILTERS: Record<string, Partial<SamplingParams>> = {
    "no filter": {},
    "no filter, hot": { temperature: 2 },
    "no filter, cold": { temperature: 0.05 },
    "top-k 1": { topK: 1 },
    "top-k 40": { topK: 40 },
    "top-k 64": { topK: 64, temperature: 3 },
    "top-k 65": { topK: 65, temperature: 3 },
    "top-k 700": { topK: 700, temperature: 3 },
    "top-p 0.9": { topP: 0.9, temperature: 0.7 },
    "top-p 0.95, hot": { topP: 0.95, temperature: 3 },
    "top-p 0": { topP: 0 },
    "min-p 0.05": { minP: 0.05 },
    "min-p 0.001, hot": { minP: 0.001, temperature: 3 },
    "top-k 40, top-p 0.8, min-p 0.02": { topK: 40, topP: 0.8, minP: 0.02, temperature: 1.5 },
    "top-k 500, top-p 0.8, min-p 0.001": { topK: 500, topP: 0.8, minP: 0.001, temperature: 3 },
  };
  const LARGE = ["no filter", "top-k 40", "top-p 0.95, hot", "top-k 500, top-p 0.8, min-p 0.001"];
  for (const [vocab, steps] of [
    [50, 12],
    [5000, 12],
    [151_936, 2],
  ] as const) {
    for (const [name, filter] of Object.entries(FILTERS)) {
      if (vocab > 100_000 && !LARGE.includes(name)) continue;
      test(`vocabulary of ${vocab}, ${name}`, async () => {
        const random = seededRandom(`${vocab} ${name}`);
        const params = { ...OFF, ...filter, seed: random.integer(2 ** 32) * 1000 };
        await expectReference({ logits: modelLogits(random, vocab), params, steps });
      });
    }
  }

  test("with penalties and a bias", async () => {
    const random = seededRandom("penalties");
    const vocab = 5000;
    const bias = random.normal([vocab]).map((value) => (value > 1 ? Number.NEGATIVE_INFINITY : value));
    const counts = random.ids(vocab, 4).map((count) => (random.next() < 0.3 ? IN_PROMPT + count : count));
    const params = { ...OFF, repetitionPenalty: 1.3, presencePenalty: 0.5, frequencyPenalty: 0.2, seed: -5 };
    for (const filter of [{}, { topK: 40 }, { topP: 0.99, temperature: 2 }, { temperature: 0 }]) {
      await expectReference({ logits: modelLogits(random, vocab), bias, counts, params: { ...params, ...filter } });
    }
  });

  for (const temperature of [0.4995, 0.5005]) {
    test(`temperature 0.5 and ${temperature} are told apart`, async () => {
      const logits = new Float32Array(50).fill(-100);
      logits.set([1, 2, 3, 4]);
      const params = { ...OFF, temperature: 0.5, seed: 5 };
      const isTelling = (step: number) => {
        const { token, lead } = samplePickReference(logits, params, step);
        return lead > NEAR_TIE && token !== samplePickReference(logits, { ...params, temperature }, step).token;
      };
      let step = 0;
      while (!isTelling(step)) step++;
      const [[token] = []] = (await runSampling(await getTestGpu(), { logits, params, row: { step } })).results;
      expect(token).toBe(samplePickReference(logits, params, step).token);
    });
  }

  test("the seed's low and high words both count", async () => {
    const logits = new Float32Array(5000);
    const first = await expectReference({ logits, params: { ...OFF, seed: 3 }, steps: 4 });
    for (const seed of [4, 3 + 2 ** 32, -3]) {
      expect(await expectReference({ logits, params: { ...OFF, seed }, steps: 4 })).not.toEqual(first);
    }
  });
});

describe("greedy", () => {
  test("takes the highest logit, and the lowest id of equals", async () => {
    const random = seededRandom("greedy");
    const logits = random.normal([5000]).map((value) => Math.min(1, Math.round(value * 4) / 4));
    const [[token] = []] = (await runSampling(await getTestGpu(), { logits, params: { ...OFF, temperature: 0 } })).results;
    expect(token).toBe(logits.indexOf(1));
  });

  test("is what top-k 1 is, at any temperature", async () => {
    const random = seededRandom("top-k 1");
    const logits = modelLogits(random, 5000);
    const [greedy] = await expectReference({ logits, params: { ...OFF, temperature: 0 } });
    expect(await expectReference({ logits, params: { ...OFF, temperature: 5, topK: 1 }, steps: 20 })).toEqual(new Array(20).fill(greedy));
  });
});

describe("hard distributions", () => {
  test("flat logits, whose nucleus is far more than 64 tokens, are cut at the right id", async () => {
    const vocab = 5000;
    const tokens = await expectReference({ logits: new Float32Array(vocab), params: { ...OFF, topP: 0.3 }, steps: 40 });
    expect(Math.max(...tokens)).toBeLessThan(0.3 * vocab + 1);
    expect(Math.max(...tokens)).toBeGreaterThan(0.27 * vocab);
    const fewer = await expectReference({ logits: new Float32Array(vocab).fill(-3), params: { ...OFF, topK: 70 }, steps: 30 });
    expect(Math.max(...fewer)).toBeLessThan(70);
  });

  // A step at which the given token has the best noise of all up to `last`.
  const stepWon = (winner: number, last: number, seed: number) => {
    for (let step = 0; ; step++) {
      const best = gumbel(seed, step, winner);
      if (Array.from({ length: last + 1 }, (_, id) => id).every((id) => id === winner || gumbel(seed, step, id) < best)) return step;
    }
  };
  for (const [name, equals, filter, kept] of [
    ["top-p, among the 64 best", 40, { topP: 0.29999 }, 12],
    ["top-p, beyond them", 1000, { topP: 0.29999 }, 300],
    ["top-k, among the 64 best", 40, { topK: 12 }, 12],
    ["top-k, beyond them", 1000, { topK: 300 }, 300],
    ["top-p within top-k", 1000, { topK: 500, topP: 0.19999 }, 100],
  ] as const) {
    test(`the last token kept can be drawn and the next cannot: ${name}`, async () => {
      const logits = Float32Array.from({ length: 1000 }, (_, id) => (id < equals ? 3 : -100));
      const gpu = await getTestGpu();
      const drawAt = async (step: number) => {
        return (await runSampling(gpu, { logits, params: { ...OFF, ...filter, seed: 11 }, row: { step } })).results[0]?.[0];
      };
      expect(await drawAt(stepWon(kept - 1, kept, 11))).toBe(kept - 1);
      expect(await drawAt(stepWon(kept, kept, 11))).toBeLessThan(kept);
    });
  }

  test("ties across the cut keep the lower ids", async () => {
    const random = seededRandom("ties");
    const logits = random.normal([5000]).map((value) => Math.round(value * 2) / 2);
    for (const filter of [{ topK: 10 }, { topK: 64 }, { topK: 300 }, { topP: 0.05 }, { topP: 0.5 }, { topK: 1000, topP: 0.7 }]) {
      const params = { ...OFF, ...filter };
      const kept = new Set(keptTokens(logits, params));
      const tokens = await expectReference({ logits, params, steps: 12 });
      expect(tokens.filter((token) => !kept.has(token))).toEqual([]);
    }
  });

  test("whether tokens were filtered or not, the same noise draws the same token", async () => {
    const logits = modelLogits(seededRandom("ways"), 5000);
    const draw = (filter: Partial<SamplingParams>) =>
      expectReference({ logits, params: { ...OFF, ...filter, temperature: 0.8 }, steps: 20 });
    const free = await draw({});
    expect(await draw({ topK: 4999 })).toEqual(free);
    expect(await draw({ minP: 1e-30 })).toEqual(free);
    expect(await draw({ topP: 0.9999999 })).toEqual(free);
  });

  test("one token far above all others, and logits of 1e4, give no NaN", async () => {
    const logits = seededRandom("peak").normal([5000], 1e4);
    logits[1234] = 9e4;
    for (const filter of [{}, { topP: 0.9 }, { topK: 100 }, { minP: 0.1 }]) {
      expect(await expectReference({ logits, params: { ...OFF, ...filter }, steps: 4 })).toEqual(new Array(4).fill(1234));
    }
  });

  test("a forbidden token is never drawn at temperature 2", async () => {
    const random = seededRandom("forbidden");
    const logits = random.normal([1000], 0.1);
    const bias = Float32Array.from(logits, () => (random.next() < 0.9 ? Number.NEGATIVE_INFINITY : 0));
    for (const filter of [{}, { topK: 50 }, { topK: 900 }, { topP: 0.999999 }, { minP: 1e-6 }]) {
      const tokens = await expectReference({ logits, bias, params: { ...OFF, ...filter, temperature: 2 }, steps: 50 });
      for (const token of tokens) if (bias[token] !== 0) expect.fail(`${JSON.stringify(filter)} drew the forbidden ${token}`);
    }
  });
});

describe("draws follow the probabilities", () => {
  const logits = seededRandom("shares").normal([50], 1.5);

  function expectShares(tokens: readonly number[], params: SamplingParams): void {
    const seen = new Map<number, number>();
    for (const token of tokens) seen.set(token, (seen.get(token) ?? 0) + 1);
    const kept = keptTokens(logits, params);
    const mass = kept.reduce((sum, id) => sum + Math.exp(logits[id] ?? 0), 0);
    let chiSquare = 0;
    for (const id of kept) {
      const expected = (tokens.length * Math.exp(logits[id] ?? 0)) / mass;
      chiSquare += ((seen.get(id) ?? 0) - expected) ** 2 / expected;
      seen.delete(id);
    }
    expect([...seen.keys()], "tokens drawn that are not kept").toEqual([]);
    const freedom = kept.length - 1;
    expect(chiSquare).toBeLessThan(freedom + 4 * Math.sqrt(2 * freedom));
  }

  for (const [name, draws, filter] of [
    ["no filter", 10_000, {}],
    ["top-p 0.9", 2000, { topP: 0.9 }],
  ] as const) {
    const params = { ...OFF, ...filter, seed: 2024 };
    const title = `of ${draws} draws with ${name}, each token has its share`;

    // Each draw is two dispatches, which software runs one at a time: there the kernel is held to the reference's first draws, and the
    // reference to the shares.
    test(`${title}: the reference's`, async () => {
      expectShares(
        Array.from({ length: draws }, (_, step) => samplePickReference(logits, params, step).token),
        params,
      );
      await expectReference({ logits, params, steps: 100 });
    });

    longTest(
      title,
      async () => {
        const { results } = await runSampling(await getTestGpu(), { logits, params, steps: draws });
        expectShares(
          results.map(([token]) => token),
          params,
        );
      },
      600_000,
    );
  }
});

describe("the state", () => {
  const logits = new Float32Array(50).fill(-4);
  logits[17] = 9;
  const greedy = { ...OFF, temperature: 0 };
  const input = { logits, params: greedy, counts: new Uint32Array(50).fill(IN_PROMPT + 2), row: { position: 100, step: 5 } };

  test("moves on by a position and a step, and the token feeds the next step", async () => {
    const { results, row, counts } = await runSampling(await getTestGpu(), { ...input, steps: 2 });
    expect(results).toEqual([
      [17, 0, 5, 100],
      [17, 0, 6, 101],
    ]);
    expect(row).toEqual({ id: 17, position: 102, slot: 0, step: 7, stopped: 0 });
    expectSame(
      counts,
      Uint32Array.from(counts, (_, id) => IN_PROMPT + (id === 17 ? 4 : 2)),
    );
  });

  test("stops at a stop token; steps after it change nothing", async () => {
    const { results, row, counts } = await runSampling(await getTestGpu(), { ...input, stopIds: [3, 17], steps: 3 });
    expect(results).toEqual([
      [17, SAMPLE_STOP.stopToken, 5, 100],
      [NO_TOKEN, SAMPLE_STOP.afterStop, 6, 101],
      [NO_TOKEN, SAMPLE_STOP.afterStop, 6, 101],
    ]);
    expect(row).toEqual({ id: 17, position: 101, slot: 0, step: 6, stopped: SAMPLE_STOP.stopToken });
    expect(counts[17]).toBe(IN_PROMPT + 3);
  });

  test("a stop token that is not drawn does not stop it", async () => {
    const { row } = await runSampling(await getTestGpu(), { ...input, stopIds: [16, 18] });
    expect(row).toEqual({ id: 17, position: 101, slot: 0, step: 6, stopped: 0 });
  });

  test("the last of 64 stop tokens stops it", async () => {
    const stopIds = [...Array.from({ length: 63 }, (_, i) => 100 + i), 17];
    const { row } = await runSampling(await getTestGpu(), { ...input, stopIds });
    expect(row.stopped).toBe(SAMPLE_STOP.stopToken);
  });

  const forbidden = new Float32Array(50).fill(Number.NEGATIVE_INFINITY);
  const FAILURES: Record<string, readonly [number, Partial<SamplingRunInput>]> = {
    "all tokens are forbidden": [SAMPLE_STOP.nothingAllowed, { bias: forbidden }],
    "the logits are not numbers": [SAMPLE_STOP.notANumber, { logits: new Float32Array(50).fill(Number.NaN) }],
    "one logit is not a number": [SAMPLE_STOP.notANumber, { logits: logits.with(49, Number.NaN) }],
    "one logit is infinite": [SAMPLE_STOP.notANumber, { logits: logits.with(3, Number.POSITIVE_INFINITY) }],
    "all are forbidden, and no numbers either": [
      SAMPLE_STOP.nothingAllowed,
      { bias: forbidden, logits: new Float32Array(50).fill(Number.NaN) },
    ],
  };
  for (const [name, [why, wrong]] of Object.entries(FAILURES)) {
    for (const filter of [{ temperature: 0 }, {}, { topK: 5 }]) {
      test(`no token is made up where ${name}, ${JSON.stringify(filter)}`, async () => {
        const { results, row } = await runSampling(await getTestGpu(), { ...input, ...wrong, params: { ...OFF, ...filter } });
        expect(results).toEqual([[NO_TOKEN, why, 5, 100]]);
        expect(row).toEqual({ id: 0, position: 100, slot: 0, step: 5, stopped: why });
      });
    }
  }

  test("a forbidden token's logit may be no number: it is not asked", async () => {
    const bias = new Float32Array(50);
    bias[3] = Number.NEGATIVE_INFINITY;
    const { results } = await runSampling(await getTestGpu(), { ...input, bias, logits: logits.with(3, Number.NaN) });
    expect(results).toEqual([[17, 0, 5, 100]]);
  });
});

// Sequences that decode together: settings, counts and bias are those of a row's slot, whatever its place.
describe("rows of several sequences", () => {
  const FILTERS: readonly Partial<SamplingParams>[] = [
    { temperature: 0 },
    { temperature: 1.3 },
    { topK: 40 },
    { topP: 0.95, temperature: 3 },
    { topK: 500, topP: 0.8, minP: 0.001, temperature: 3 },
    { minP: 0.05 },
    { topK: 1 },
    { topP: 0.3 },
  ];
  // In no order, with a slot that is nobody's.
  const SLOTS = [4, 0, 7, 2, 8, 1, 3, 6];

  function randomRows(random: Random, vocab: number, count: number): SampledRow[] {
    return FILTERS.slice(0, count).map((filter, index) => ({
      logits: index === 7 ? new Float32Array(vocab) : modelLogits(random, vocab),
      bias: random.normal([vocab]).map((value) => (value > 2 ? Number.NEGATIVE_INFINITY : value)),
      counts: random.ids(vocab, 3),
      params: { ...OFF, ...filter, repetitionPenalty: 1 + index / 10, presencePenalty: index / 8, seed: 1000 + index },
      row: { position: 3 + 50 * index, slot: SLOTS[index] ?? 0, step: index },
    }));
  }

  for (const [vocab, count] of [
    [50, 2],
    [1025, 3],
    [5000, 8],
  ] as const) {
    test(`each of ${count} draws what it draws alone, from ${vocab} tokens`, async () => {
      const gpu = await getTestGpu();
      const rows = randomRows(seededRandom(`rows ${count}`), vocab, count);
      const together = await runSamplingRows(gpu, rows, { steps: 3 });
      for (const [index, row] of rows.entries()) {
        const alone = await runSampling(gpu, { ...row, steps: 3 });
        expect(together[index]?.results).toEqual(alone.results);
        expect(together[index]?.row).toEqual(alone.row);
        expectSame(together[index]?.counts ?? [], alone.counts);
      }
    });
  }

  test("a stopped one, and one that fails, leave the others alone", async () => {
    const gpu = await getTestGpu();
    const [first, second, third, fourth] = randomRows(seededRandom("stopped rows"), 1025, 4);
    if (!first || !second || !third || !fourth) throw new Error("four rows");
    const broken = { ...third, logits: third.logits.with(1024, Number.NaN) };
    const ended = { ...second, row: { ...second.row, stopped: SAMPLE_STOP.stopToken } };
    const [a, b, c, d] = await runSamplingRows(gpu, [first, ended, broken, fourth], { steps: 2 });
    expect(a?.results).toEqual((await runSampling(gpu, { ...first, steps: 2 })).results);
    expect(b?.results.map(([token, why]) => [token, why])).toEqual(Array(2).fill([NO_TOKEN, SAMPLE_STOP.afterStop]));
    expect(c?.results.map(([, why]) => why)).toEqual([SAMPLE_STOP.notANumber, SAMPLE_STOP.afterStop]);
    expect(d?.results).toEqual((await runSampling(gpu, { ...fourth, steps: 2 })).results);
  });

  test("after a prefill chunk the last row alone is sampled", async () => {
    const gpu = await getTestGpu();
    const [row] = randomRows(seededRandom("chunk"), 1025, 1);
    if (!row) throw new Error("one row");
    const before = [5, 6].map((position) => ({ id: 9, position, slot: 4, step: 0, stopped: 0 }));
    const [output] = await runSamplingRows(gpu, [row], { before });
    expect(output).toEqual(await runSampling(gpu, row));
  });
});
