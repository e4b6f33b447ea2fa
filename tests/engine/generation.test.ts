// How an answer is drawn, what ends it, and what a run leaves behind: exactly the tokens that were taken, and their K/V.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { EngineCore } from "../../src/engine/engine-core";
import type { Sequence } from "../../src/steps/sequence";
import { replaceMethod } from "../support/device-faults";
import { expectLlmError } from "../support/expect-llm-error";
import { continueSequence, generateAfresh, loadTestCore } from "../support/test-core";
import { evaluateAll, type Golden, readGolden } from "../support/test-model";

const CASE = "tests/golden/llama-gqa";
const CHUNK_ROWS = 16;

let golden: Golden;
let core: EngineCore;

beforeAll(async () => {
  golden = await readGolden(CASE);
  core = await loadTestCore(CASE, { contextLength: 128, poolLength: 512, chunkRows: CHUNK_ROWS, pageSize: 64 });
});
afterAll(() => core.dispose());

/** A sequence with these ids, nothing of it cached. */
function sequenceOf(ids: readonly number[]): Sequence {
  const sequence = core.createSequence();
  sequence.append(ids);
  return sequence;
}

/** Fails unless the sequence goes on as one does that computes all its K/V anew. */
async function expectValidCache(sequence: Sequence): Promise<void> {
  const afresh = await generateAfresh(core, sequence.tokens, { maxTokens: 6 });
  const length = sequence.tokens.length;
  await continueSequence(core, sequence, { maxTokens: 6 });
  expect(sequence.tokens.slice(length)).toEqual(afresh);
}

describe("sampling", () => {
  const draw = (seed: number) => generateAfresh(core, golden.ids, { temperature: 1, seed, maxTokens: 12 });

  test("the same seed draws the same tokens, another seed others", async () => {
    const first = await draw(1);
    expect(await draw(1)).toEqual(first);
    expect(await draw(2)).not.toEqual(first);
  });

  test("the seed draws the same tokens however many steps are submitted ahead", async () => {
    const patient = await loadTestCore(CASE, { contextLength: 128, chunkRows: CHUNK_ROWS, stepsAhead: 1 });
    try {
      expect(await generateAfresh(patient, golden.ids, { temperature: 1, seed: 1, maxTokens: 12 })).toEqual(await draw(1));
    } finally {
      patient.dispose();
    }
  });

  test("at temperature 0 the likeliest token comes, whatever the seed", async () => {
    for (const seed of [1, 2]) {
      expect(await generateAfresh(core, golden.ids, { temperature: 0, seed, maxTokens: 12 })).toEqual(golden.greedy.slice(0, 12));
    }
  });

  test("a token that logitBias forbids never comes, and another does in its place", async () => {
    const forbidden = [...new Set(golden.greedy.slice(0, 8))];
    const logitBias = new Map(forbidden.map((id) => [id, Number.NEGATIVE_INFINITY]));
    const ids = await generateAfresh(core, golden.ids, { logitBias, maxTokens: 24 });
    expect(ids).toHaveLength(24);
    expect(ids.filter((id) => forbidden.includes(id))).toEqual([]);
  });

  test("the repetition penalty divides the positive logits of the prompt's tokens", async () => {
    const { logits } = await evaluateAll(core, { ids: golden.ids });
    const last = logits.slice(-core.config.vocabSize);
    const chosen = [1, 0.1, 10].map((penalty) => {
      const penalised = last.map((logit, id) => (golden.ids.includes(id) ? (logit > 0 ? logit / penalty : logit * penalty) : logit));
      return { penalty, id: penalised.indexOf(Math.max(...penalised)) };
    });
    expect(new Set(chosen.map(({ id }) => id)).size).toBeGreaterThan(1);
    for (const { penalty, id } of chosen) {
      expect(await generateAfresh(core, golden.ids, { repetitionPenalty: penalty, maxTokens: 1 }), `penalty ${penalty}`).toEqual([id]);
    }
  });

  test.each(["presencePenalty", "frequencyPenalty"])("%s counts the answer's tokens, and not the prompt's", async (penalty) => {
    const [first = -1] = golden.greedy;
    // Below 0 it rewards, so that the first token comes again and again.
    expect(await generateAfresh(core, golden.ids, { [penalty]: -100, maxTokens: 4 })).toEqual([first, first, first, first]);
  });

  test("where every token is forbidden the run fails, and the sequence goes on without the bias", async () => {
    const logitBias = new Map(Array.from({ length: core.config.vocabSize }, (_, id) => [id, Number.NEGATIVE_INFINITY]));
    const sequence = sequenceOf(golden.ids);
    await expectLlmError(continueSequence(core, sequence, { logitBias, maxTokens: 4 }), "bad-request", "forbids every token");
    expect(sequence.tokens).toEqual(golden.ids);
    await expectValidCache(sequence);
  });
});

describe("the end of an answer", () => {
  test("comes after maxTokens", async () => {
    for (const maxTokens of [0, 1, 5]) {
      const sequence = sequenceOf(golden.ids);
      const result = await continueSequence(core, sequence, { maxTokens });
      expect(result).toMatchObject({ finishReason: "length", generatedTokens: maxTokens });
      expect(sequence.tokens).toEqual([...golden.ids, ...golden.greedy.slice(0, maxTokens)]);
      await expectValidCache(sequence);
    }
  });

  test("comes with a stop id, which is the last token and the only one of its kind", async () => {
    const stop = golden.greedy[6] ?? -1;
    const end = golden.greedy.indexOf(stop) + 1;
    const sequence = sequenceOf(golden.ids);
    const result = await continueSequence(core, sequence, { maxTokens: 24, stopIds: [stop] });
    expect(result).toMatchObject({ finishReason: "stop", generatedTokens: end });
    expect(sequence.tokens).toEqual([...golden.ids, ...golden.greedy.slice(0, end)]);
    expect(sequence.cachedLength).toBe(sequence.tokens.length - 1);
    await expectValidCache(sequence);
  });

  test("comes where the taker says so, and steps submitted ahead leave no token and no K/V that is wrong", async () => {
    for (const taken of [1, 2, 5]) {
      const sequence = sequenceOf(golden.ids);
      let count = 0;
      const result = await continueSequence(core, sequence, { maxTokens: 24, onToken: () => ++count < taken });
      expect(result).toMatchObject({ finishReason: "stop", generatedTokens: taken });
      expect(sequence.tokens).toEqual([...golden.ids, ...golden.greedy.slice(0, taken)]);
      await expectValidCache(sequence);
    }
  });

  test("comes with the context's, which holds prompt and answer to its last position", async () => {
    const small = await loadTestCore(CASE, { contextLength: 80, chunkRows: CHUNK_ROWS, pageSize: 64 });
    try {
      for (const [promptLength, generatedTokens] of [
        [golden.ids.length, 80 - golden.ids.length],
        [79, 1],
        [80, 0],
      ] as const) {
        const prompt = [...golden.ids, ...golden.greedy].slice(0, promptLength);
        const sequence = small.createSequence();
        sequence.append(prompt);
        const result = await continueSequence(small, sequence, { maxTokens: 24 });
        expect(result).toMatchObject({ finishReason: "context", generatedTokens });
        expect(sequence.tokens).toEqual([...golden.ids, ...golden.greedy].slice(0, 80));
        await small.releaseSequence(sequence);
      }
    } finally {
      small.dispose();
    }
  });

  test("is an error for a prompt without tokens, and for ids that the model does not have", async () => {
    await expectLlmError(continueSequence(core, sequenceOf([]), { maxTokens: 1 }), "bad-request", "no tokens");
    for (const id of [-1, 512, 1.5]) {
      await expectLlmError(continueSequence(core, sequenceOf([1, id]), { maxTokens: 1 }), "bad-request", `id ${id}`, "0 to 511");
      await expectLlmError(core.evaluate({ ids: [1, id], onLogits: () => undefined }), "bad-request", `id ${id}`);
    }
  });
});

describe("an abort", () => {
  const reason = new Error("the reader has gone");

  test("before the turn leaves everything as it was", async () => {
    const sequence = sequenceOf(golden.ids);
    await expect(continueSequence(core, sequence, { maxTokens: 4, signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const abort = new AbortController();
    const running = continueSequence(core, sequenceOf(golden.ids), { maxTokens: 8 });
    const waiting = continueSequence(core, sequence, { maxTokens: 4, signal: abort.signal });
    const behind = continueSequence(core, sequenceOf(golden.ids), { maxTokens: 1 });
    abort.abort(reason);
    await expect(waiting).rejects.toBe(reason);
    expect(await running).toMatchObject({ generatedTokens: 8 });
    expect(await behind).toMatchObject({ generatedTokens: 1 });
    expect({ tokens: sequence.tokens, cachedLength: sequence.cachedLength }).toEqual({ tokens: golden.ids, cachedLength: 0 });
    await expectValidCache(sequence);
  });

  test.each([1, 2, 4])("in prefill, after chunk %i, keeps the K/V of the chunks that were computed", async (chunk) => {
    const abort = new AbortController();
    const sequence = sequenceOf(golden.ids);
    let submitted = 0;
    const restore = replaceMethod(core.gpu.device.queue, "onSubmittedWorkDone", (done) => () => {
      if (++submitted === chunk) abort.abort(reason);
      return done();
    });
    try {
      await expect(continueSequence(core, sequence, { maxTokens: 4, signal: abort.signal })).rejects.toBe(reason);
    } finally {
      restore();
    }
    expect({ tokens: sequence.tokens, cachedLength: sequence.cachedLength }).toEqual({
      tokens: golden.ids,
      cachedLength: CHUNK_ROWS * chunk,
    });
    await expectValidCache(sequence);
  });

  test.each([1, 2, 3, 7])("in decode, after token %i, keeps that token and what is cached of it", async (taken) => {
    const abort = new AbortController();
    const sequence = sequenceOf(golden.ids);
    let count = 0;
    const onToken = () => {
      if (++count === taken) abort.abort(reason);
      return true;
    };
    await expect(continueSequence(core, sequence, { maxTokens: 24, signal: abort.signal, onToken })).rejects.toBe(reason);
    expect(sequence.tokens).toEqual([...golden.ids, ...golden.greedy.slice(0, taken)]);
    expect(sequence.cachedLength).toBeGreaterThanOrEqual(golden.ids.length + taken - 1);
    await expectValidCache(sequence);
  });

  test("leaves the next run of another sequence as it is", async () => {
    const abort = new AbortController();
    const onToken = () => {
      abort.abort(reason);
      return true;
    };
    const aborted = continueSequence(core, sequenceOf(golden.ids), { maxTokens: 24, signal: abort.signal, onToken });
    const next = generateAfresh(core, golden.ids, { maxTokens: 8 });
    await expect(aborted).rejects.toBe(reason);
    expect(await next).toEqual(golden.greedy.slice(0, 8));
  });
});
