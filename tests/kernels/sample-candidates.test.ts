import { expect } from "vitest";
import { candidateBytes, chunkBytes, sampleCandidates } from "../../src/kernels/sample-candidates";
import { encodeSamplingParams, IN_PROMPT, type SamplingParams } from "../../src/kernels/sampling-params";
import { FORBIDDEN, sampleCandidatesReference } from "../reference/sample-candidates";
import { expectClose, expectSame } from "../support/expect-close";
import { kernelTest, type RunKernel } from "../support/kernel-test";
import type { Random } from "../support/random";
import { seededRandom } from "../support/random";
import { stepState } from "../support/step-state";

const PARAMS: SamplingParams = {
  temperature: 0.8,
  topK: 40,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1.25,
  presencePenalty: 0.5,
  frequencyPenalty: 0.125,
  seed: 7,
};
const CHUNK = 1024;
const BEST = 64;
const UNTOUCHED = 0xabababab;

type Run = RunKernel<
  "state" | "params" | "logits" | "bias" | "counts" | "candidates" | "chunks",
  { vocab: number },
  { rows: number; positions: number }
>;

async function sample(run: Run, random: Random, logits: Float32Array<ArrayBuffer>, params: SamplingParams, stopped = 0) {
  const vocab = logits.length;
  const bias = random.normal([vocab]).map((value) => (value > 1.5 ? Number.NEGATIVE_INFINITY : Math.max(value, 0)));
  const counts = random.ids(vocab, 4).map((count) => (random.next() < 0.3 ? IN_PROMPT + count : count));
  const outputs = await run(
    { vocab },
    { rows: 1, positions: 1 },
    {
      state: stepState({ position: 9, rows: 1, stopped, step: 3 }),
      params: new Uint32Array(encodeSamplingParams(params, [])),
      bias,
      counts,
    },
    {
      logits,
      candidates: new Uint32Array(candidateBytes(vocab) / 4).fill(UNTOUCHED),
      chunks: new Uint32Array(chunkBytes(vocab) / 4).fill(UNTOUCHED),
    },
  );
  return { ...outputs, expected: sampleCandidatesReference({ logits, bias, counts, params }) };
}

/** The ids of a chunk in the order of `logits`, the lower first of equals. */
function orderOf(logits: Float32Array, first: number): number[] {
  const ids = Array.from({ length: Math.min(CHUNK, logits.length - first) }, (_, i) => first + i);
  return ids.sort((a, b) => (logits[b] ?? 0) - (logits[a] ?? 0) || a - b);
}

const LOGITS: Record<string, (random: Random, vocab: number) => Float32Array<ArrayBuffer>> = {
  normal: (random, vocab) => random.normal([vocab], 4),
  ties: (random, vocab) => random.normal([vocab]).map(Math.round),
  flat: (_, vocab) => new Float32Array(vocab),
  huge: (random, vocab) => random.withOutliers([vocab, 7].map((n, i) => (i === 0 ? Math.ceil(n / 7) : n))).slice(0, vocab),
};

kernelTest(
  sampleCandidates,
  { vocab: [50, 1024, 5000], kind: ["normal", "ties", "flat", "huge"] },
  async ({ run, random, vocab, kind }) => {
    const { logits, candidates, chunks, expected } = await sample(run, random, (LOGITS[kind] ?? expect.fail)(random, vocab), PARAMS);
    expectClose(logits, expected, { atol: 1e-5, rtol: 1e-6 });
    const floats = new Float32Array(chunks.buffer);
    for (let chunk = 0; chunk * CHUNK < vocab; chunk++) {
      const order = orderOf(logits, chunk * CHUNK);
      const best = order.slice(0, BEST);
      const ids = Array.from({ length: BEST }, (_, i) => candidates[(chunk * BEST + i) * 2 + 1]);
      expect(ids).toEqual([...best, ...new Array(BEST - best.length).fill(0xffffffff)]);
      const highest = logits[order[0] ?? 0] ?? 0;
      const mass = order.reduce((sum, id) => sum + Math.exp(((logits[id] ?? 0) - highest) / PARAMS.temperature), 0);
      expectSame(floats.subarray(chunk * 6, chunk * 6 + 1), [highest]);
      expect(chunks[chunk * 6 + 1]).toBe(order[0]);
      expectClose(floats.subarray(chunk * 6 + 2, chunk * 6 + 3), [mass], { atol: 0, rtol: 1e-5 });
    }
  },
);

kernelTest(sampleCandidates, { filter: ["off", "greedy"] }, async ({ run, random, filter }) => {
  const params = filter === "off" ? { ...PARAMS, topK: 0 } : { ...PARAMS, temperature: 0 };
  const { candidates, chunks, logits } = await sample(run, random, random.normal([1024]), params);
  expect(
    candidates.every((word) => word === UNTOUCHED),
    "sorted though no filter is on",
  ).toBe(true);
  const drawn = chunks[4] ?? 0;
  if (filter === "greedy") expect(drawn).toBe(0xffffffff);
  else expect(logits[drawn]).toBeGreaterThan(FORBIDDEN);
});

kernelTest(sampleCandidates, { stopped: [1, 3] }, async ({ run, random, stopped }) => {
  const before = random.normal([1024]);
  const { logits, chunks } = await sample(run, seededRandom("bias"), before, PARAMS, stopped);
  expectSame(logits, before);
  expect(chunks.every((word) => word === UNTOUCHED)).toBe(true);
});
