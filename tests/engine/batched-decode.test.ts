// Several sequences that decode in one step: each says what it says alone, whoever joins, leaves or fails beside it.
import { afterAll, describe, expect, test } from "vitest";
import type { EngineCore } from "../../src/engine/engine-core";
import { readback } from "../../src/gpu/readback";
import type { SamplingSettings } from "../../src/index";
import type { GemvBatchChoice } from "../../src/kernels/gemv-batch";
import type { Sequence } from "../../src/steps/sequence";
import { replaceMethod } from "../support/device-faults";
import { planFile } from "../support/stage-plans";
import { without } from "../support/staged-engine";
import { type ContinueOptions, continueSequence, generateAfresh, loadStagedCore, loadTestCore } from "../support/test-core";
import { readGolden } from "../support/test-model";

const CONTEXT = 128;
const OPTIONS = { contextLength: CONTEXT, poolLength: 12 * CONTEXT, chunkRows: 64, pageSize: 16, kvFormat: "f32" } as const;
// As rows may be computed by other kernels than a prompt's chunk.
const LIMIT = 1e-3;

const cores = new Map<string, Promise<EngineCore>>();
afterAll(async () => {
  for (const core of await Promise.all(cores.values())) core.dispose();
});

/** One for all tests of a model. */
function coreOf(name: string): Promise<EngineCore> {
  const core = cores.get(name) ?? loadTestCore(`tests/golden/${name}`, OPTIONS);
  cores.set(name, core);
  return core;
}

interface Speaker {
  readonly prompt: readonly number[];
  readonly options: ContinueOptions;
}

function speakers(ids: readonly number[], count: number, maxTokens: number): Speaker[] {
  const settings: readonly SamplingSettings[] = [
    { temperature: 0 },
    { temperature: 1, seed: 5 },
    { temperature: 2, topK: 40, repetitionPenalty: 1.3, seed: 6 },
    { temperature: 1, topP: 0.9, presencePenalty: 0.5, seed: 7 },
  ];
  return Array.from({ length: count }, (_, index) => ({
    prompt: ids.slice(index, index + 3 + ((index * 13) % 40)),
    options: { ...settings[index % settings.length], maxTokens },
  }));
}

async function say(core: EngineCore, { prompt, options }: Speaker): Promise<readonly number[]> {
  const sequence = core.createSequence();
  sequence.append(prompt);
  try {
    await continueSequence(core, sequence, options);
    return sequence.tokens.slice(prompt.length);
  } finally {
    core.releaseSequence(sequence);
  }
}

/** For `onToken`: acts at a token, and goes on. */
function countingTo(count: number, act: () => void): () => boolean {
  let tokens = 0;
  return () => {
    if (++tokens === count) act();
    return true;
  };
}

async function alone(core: EngineCore, all: readonly Speaker[]): Promise<(readonly number[])[]> {
  const said: (readonly number[])[] = [];
  for (const { prompt, options } of all) said.push(await generateAfresh(core, prompt, options));
  return said;
}

// RMSNorm within the products, and LayerNorm before them; a window; biases.
describe.each(["llama-gqa", "falcon-mqa-parallel", "mistral-window", "qwen2-bias"])("%s", (name) => {
  test("says in a batch what it says alone, with settings of each sequence's own", async () => {
    const core = await coreOf(name);
    const { ids } = await readGolden(`tests/golden/${name}`);
    const all = speakers(ids, 5, 12);
    const expected = await alone(core, all);
    expect(await Promise.all(all.map((speaker) => say(core, speaker)))).toEqual(expected);
  });
});

// Adapters in software compute each row by itself unless told otherwise: here they are.
const ofFew: GemvBatchChoice = ({ tuning }, rows) => ({ batch: rows > 4 ? 8 : rows > 2 ? 4 : 2, tuning });

describe.each(["llama-gqa", "falcon-mqa-parallel", "qwen2-bias"])("%s, whose weights are unpacked once for several rows", (name) => {
  test("says in a batch what it says alone, while the kernels for that come and after", async () => {
    const core = await loadTestCore(`tests/golden/${name}`, OPTIONS);
    const { ids } = await readGolden(`tests/golden/${name}`);
    const all = speakers(ids, 5, 12);
    const expected = await alone(core, all);
    const { kernels } = core.model.context;
    const before = kernels.size;
    const saying = Promise.all(all.map((speaker) => say(core, speaker)));
    await core.model.prepareBatches(ofFew);
    expect(await saying).toEqual(expected);
    expect(kernels.size).toBeGreaterThan(before);
    expect(await Promise.all(all.map((speaker) => say(core, speaker)))).toEqual(expected);
    expect(await Promise.all(all.slice(0, 2).map((speaker) => say(core, speaker)))).toEqual(expected.slice(0, 2));
    core.dispose();
  });
});

test("a kernel of several rows that does not compile is told of once, and each row goes on by itself", async () => {
  const core = await loadTestCore("tests/golden/llama-gqa", OPTIONS);
  const { ids } = await readGolden("tests/golden/llama-gqa");
  const all = speakers(ids, 3, 6);
  const expected = await alone(core, all);
  const told: string[] = [];
  core.gpu.onError(({ message }) => told.push(message));
  const failing: GemvBatchChoice = ({ epilogue }) => {
    if (epilogue === "silu-gated") throw new Error("no such kernel");
    return null;
  };
  await core.model.prepareBatches(failing);
  await core.model.prepareBatches(failing);
  expect(told).toEqual(["no such kernel"]);
  expect(await Promise.all(all.map((speaker) => say(core, speaker)))).toEqual(expected);
  core.dispose();
});

/** The logits of each decode step, by sequence and position, as the step left them. */
async function recordLogits(
  core: EngineCore,
  act: () => Promise<unknown>,
): Promise<ReadonlyMap<Sequence, ReadonlyMap<number, Float32Array>>> {
  const { vocabSize } = core.config;
  const reads: Promise<void>[] = [];
  const logits = new Map<Sequence, Map<number, Float32Array>>();
  const { stepper } = await core.alone(async (runtime) => runtime);
  const restore = replaceMethod(stepper, "submitDecode", (submit) => (rows) => {
    const results = submit(rows);
    const places = rows.map(({ sequence, position }) => ({ sequence, position })); // a run's position goes on
    const tensor = { ...core.model.context.scratch.tensor("logits"), bytes: rows.length * vocabSize * 4 };
    const read = readback(core.gpu, tensor).then((bytes) => {
      for (const [row, { sequence, position }] of places.entries()) {
        const ofSequence = logits.get(sequence) ?? new Map<number, Float32Array>();
        logits.set(sequence, ofSequence.set(position, new Float32Array(bytes.slice(row * vocabSize * 4, (row + 1) * vocabSize * 4))));
      }
    });
    reads.push(read);
    return results;
  });
  try {
    await act();
    await Promise.all(reads);
    return logits;
  } finally {
    restore();
  }
}

test("the logits of each row are those that its sequence has alone", async () => {
  const core = await coreOf("llama-gqa");
  const { ids } = await readGolden("tests/golden/llama-gqa");
  const sequences = [3, 30, 17, 41].map((length, index) => {
    const sequence = core.createSequence();
    sequence.append(ids.slice(index, index + length));
    return sequence;
  });
  const logits = await recordLogits(core, () => Promise.all(sequences.map((each) => continueSequence(core, each, { maxTokens: 10 }))));
  for (const sequence of sequences) {
    const steps = logits.get(sequence);
    expect(steps?.size).toBe(9); // the first token comes from the prompt's chunk
    await core.evaluate({
      ids: [...sequence.tokens],
      onLogits: (first, rows) => {
        for (const [position, found] of steps ?? []) {
          const { vocabSize } = core.config;
          const expected = rows.subarray((position - first) * vocabSize, (position - first + 1) * vocabSize);
          if (expected.length === 0) continue;
          const worst = found.reduce((most, value, id) => Math.max(most, Math.abs(value - (expected[id] ?? Number.NaN))), 0);
          expect(worst, `position ${position}`).toBeLessThan(LIMIT);
        }
      },
    });
    core.releaseSequence(sequence);
  }
});

describe("a sequence that joins or leaves between two steps", () => {
  test("changes no word of those that go on", async () => {
    const core = await coreOf("llama-gqa");
    const { ids } = await readGolden("tests/golden/llama-gqa");
    const [first, second, third] = speakers(ids, 3, 20) as [Speaker, Speaker, Speaker];
    const expected = await alone(core, [first, second, third]);
    const abort = new AbortController();
    const reason = new Error("enough");
    // The first one leaves at its eighth token, from the first row; the third joins when the second has said three.
    const leaveAt = countingTo(8, () => abort.abort(reason));
    let late: Promise<readonly number[]> | undefined;
    const joinAt = countingTo(3, () => {
      late = say(core, third);
    });
    const leaving = say(core, { ...first, options: { ...first.options, signal: abort.signal, onToken: leaveAt } });
    const staying = say(core, { ...second, options: { ...second.options, onToken: joinAt } });
    await expect(leaving).rejects.toBe(reason);
    expect(await staying).toEqual(expected[1]);
    expect(await late).toEqual(expected[2]);
  });

  test("and that ends by a stop token of its own leaves the others their tokens", async () => {
    const core = await coreOf("llama-gqa");
    const { ids } = await readGolden("tests/golden/llama-gqa");
    const [first, second] = speakers(ids, 2, 16) as [Speaker, Speaker];
    const expected = await alone(core, [first, second]);
    const stop = expected[0]?.[4] ?? -1;
    const end = (expected[0]?.indexOf(stop) ?? 0) + 1;
    const both = [say(core, { ...first, options: { ...first.options, stopIds: [stop] } }), say(core, second)];
    expect(await Promise.all(both)).toEqual([expected[0]?.slice(0, end), expected[1]]);
  });
});

test("more requests than a step has rows are all answered, in the order that they came", async () => {
  const core = await coreOf("llama-gqa");
  const { ids } = await readGolden("tests/golden/llama-gqa");
  const all = speakers(ids, 11, 6);
  const expected = await alone(core, all);
  const begun: number[] = [];
  const said = await Promise.all(
    all.map(({ prompt, options }, index) => {
      let isFirst = true;
      const onToken = () => {
        if (isFirst) begun.push(index);
        isFirst = false;
        return true;
      };
      return say(core, { prompt, options: { ...options, onToken } });
    }),
  );
  expect(said).toEqual(expected);
  expect(begun).toEqual([...begun].sort((a, b) => a - b));
});

test("a pool too small for all of them puts the later ones back, and all say what they say alone", async () => {
  const { ids } = await readGolden("tests/golden/llama-gqa");
  const core = await loadTestCore("tests/golden/llama-gqa", { ...OPTIONS, poolLength: CONTEXT });
  try {
    const all = speakers(ids, 4, 40);
    const expected = await alone(core, all);
    expect(await Promise.all(all.map((speaker) => say(core, speaker)))).toEqual(expected);
    for (const { group } of core.createSequence().parts) expect(group.pool.freeCount).toBe(group.pool.pageCount);
  } finally {
    core.dispose();
  }
});

describe("an upgrade in mid-batch", () => {
  test.each(["background", "blocking"] as const)("under the policy %s takes all of them over, each with what it had", async (policy) => {
    const { ids } = await readGolden("tests/golden/llama-gqa");
    const staged = await loadStagedCore("tests/golden/llama-gqa", planFile([without(6, 1, 2), without(6)]), OPTIONS);
    const whole = await coreOf("llama-gqa");
    try {
      const { core } = staged;
      const weights = await staged.load(1);
      let upgrade: Promise<unknown> | undefined;
      const runs = speakers(ids, 3, 80).map(({ prompt }) => {
        const sequence = core.createSequence();
        sequence.append(prompt);
        const stages: number[] = [];
        const onToken = (_: number, stage: number) => {
          stages.push(stage);
          if (stages.length === 4) upgrade ??= core.upgrade({ stage: 1, weights, policy });
          return stages.lastIndexOf(0) > stages.length - 12;
        };
        return { prompt, sequence, stages, ended: continueSequence(core, sequence, { maxTokens: 90, onToken }) };
      });
      await Promise.all(runs.map(({ ended }) => ended));
      await upgrade;
      for (const { prompt, sequence, stages } of runs) {
        const first = stages.indexOf(1);
        expect(first).toBeGreaterThan(0);
        const said = sequence.tokens.slice(prompt.length);
        const expected = await generateAfresh(whole, sequence.tokens.slice(0, prompt.length + first), { maxTokens: said.length - first });
        expect(said.slice(first)).toEqual(expected);
      }
    } finally {
      staged.dispose();
    }
  });

  test.each(["blocking", "background"] as const)(
    "%s: prompts and answers that are under way when it lands have the K/V of the new stage",
    async (policy) => {
      const { ids } = await readGolden("tests/golden/llama-gqa");
      const whole = await coreOf("llama-gqa");
      const staged = await loadStagedCore("tests/golden/llama-gqa", planFile([without(6, 3, 5), without(6)]), { ...OPTIONS, chunkRows: 8 });
      const { core } = staged;
      const ends: Promise<unknown>[] = [];
      const others: Sequence[] = [];
      // The chunks of a long prompt take turns with the others' steps; a short answer has no step left to submit while its last tokens are under way.
      const begin = (length: number, maxTokens: number) => {
        const sequence = core.createSequence();
        sequence.append(ids.slice(others.length, others.length + length));
        others.push(sequence);
        ends.push(continueSequence(core, sequence, { maxTokens }));
      };
      try {
        const weights = await staged.load(1);
        const speaker = core.createSequence();
        speaker.append(ids.slice(0, 5));
        const onToken = (_: number, stage: number) => {
          if (stage === 0 && others.length < 20) begin(others.length % 2 === 0 ? 48 : 4, 3);
          if (speaker.tokens.length === 10) ends.push(core.upgrade({ stage: 1, weights, policy }));
          return stage === 0 || speaker.tokens.length < 14;
        };
        await continueSequence(core, speaker, { maxTokens: 100, onToken });
        await Promise.all(ends);
        for (const sequence of [speaker, ...others]) {
          const before = [...sequence.tokens];
          await continueSequence(core, sequence, { maxTokens: 4 });
          expect(sequence.tokens.slice(before.length)).toEqual(await generateAfresh(whole, before, { maxTokens: 4 }));
        }
      } finally {
        staged.dispose();
      }
    },
  );
});
