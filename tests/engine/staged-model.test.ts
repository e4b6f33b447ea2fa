// The embedded model at each stage of its own plan, moved there or upgraded there on the way, held to what transformers computes of that stage
// from exactly the values that the file stores.
import { afterAll, describe, expect, test } from "vitest";
import { present } from "../../src/assert";
import type { ByteSource } from "../../src/bytes/byte-source";
import { NegativeLogLikelihood } from "../../src/cli/negative-log-likelihood";
import type { UpgradeRequest } from "../../src/engine/engine-core";
import { readSafetensors } from "../../src/formats/safetensors";
import { type Engine, type EvaluationUpgrade, type LoadOptions, loadEngine, type ModelFiles } from "../../src/index";
import { stageContents } from "../../src/stages/plan";
import { expectGolden } from "../support/expect-close";
import { longTest } from "../support/long-test";
import { readTensorIds, readTensorValues } from "../support/safetensors-values";
import { continueSequence, generateAfresh, loadStagedCore, type StagedCore } from "../support/test-core";
import { openTestFile, readTestJson } from "../support/test-files";
import { evaluateAll, loadTestEngine, sharingEngine, testModelFiles } from "../support/test-model";

const FOLDER = "public/models/smollm2-crescendo-64m";
const FILE = "smollm2-crescendo-64m-q4_0.gguf";
const REFERENCES = "tests/references/smollm2-crescendo-64m/reference-stage-";
const STAGES = ["A", "B", "C"] as const;
const LAYERS = 16;
const OPTIONS = { contextLength: 256, chunkRows: 128, kvFormat: "f32", prefixCache: false } as const;
const LOAD: LoadOptions = { ...OPTIONS, plan: "auto", delivery: "manual" };

// As in real-models.test.ts: of residuals relative to a layer's largest, of logits (stored as f16), of the mean NLL.
const RESIDUAL_TOLERANCE = 2e-4;
const LOGIT_TOLERANCE = 0.02;
const NLL_TOLERANCE = 0.001;
// The long suite, on a software adapter.
const TIMEOUT = { timeout: 1_200_000 };

interface StageReference {
  readonly layers: readonly number[];
  readonly texts: readonly { readonly ids: readonly number[]; readonly mean_nll: number }[];
  readonly chats: readonly {
    readonly messages: readonly { readonly content: string }[];
    readonly prompt_ids: readonly number[];
    readonly greedy: readonly number[];
  }[];
  /** The ids of the first text whose logits are stored. */
  readonly ids: readonly number[];
  /** As `Evaluation.hidden`, of the first 16 of them: after an absent layer what it was before. */
  readonly hidden: readonly Float32Array[];
  readonly logits: Float32Array;
}

type ReferenceChat = StageReference["chats"][number];

const HIDDEN_POSITIONS = 16;

async function readReference(stage: string): Promise<StageReference> {
  const json = await readTestJson<Pick<StageReference, "layers" | "texts" | "chats">>(`${REFERENCES}${stage}.json`);
  const stored = await readSafetensors(await openTestFile(`${REFERENCES}${stage}.safetensors`));
  // Stored are the residual after the embedding, and then after each layer that is present.
  const storedIndices = Array.from({ length: LAYERS + 1 }, (_, index) => json.layers.filter((layer) => layer < index).length);
  const [storedPositions] = present(stored.tensors.get("logits"), "stored logits").shape;
  return {
    ...json,
    ids: (await readTensorIds(stored, "input_ids")).slice(0, storedPositions),
    hidden: await Promise.all(storedIndices.map((index) => readTensorValues(stored, `hidden.${index}`))),
    logits: await readTensorValues(stored, "logits"),
  };
}

function questionOf({ messages }: ReferenceChat): string {
  return messages.at(-1)?.content ?? "";
}

const references = await Promise.all(STAGES.map(readReference));

function referenceOf(stage: number): StageReference {
  return present(references[stage], `the reference of stage ${stage}`);
}

/** Holds positions of the first text, `from` up to `to`, to the reference of a stage. */
function expectStage(subject: string, stage: number, found: Pick<StageReference, "hidden" | "logits">, from: number, to: number): void {
  const { hidden, logits, ids } = referenceOf(stage);
  for (const [index, expected] of hidden.entries()) {
    const width = expected.length / HIDDEN_POSITIONS;
    const scale = Math.max(1, ...expected.map(Math.abs));
    const scaled = (all: Float32Array) => all.slice(from * width, Math.min(to, HIDDEN_POSITIONS) * width).map((value) => value / scale);
    const residuals = scaled(present(found.hidden[index], "residuals"));
    expectGolden(`${subject} residuals, relative`, residuals, scaled(expected), RESIDUAL_TOLERANCE);
  }
  const vocabSize = logits.length / ids.length; // of each position up to the last one stored
  const part = (all: Float32Array) => all.subarray(from * vocabSize, to * vocabSize);
  expectGolden(`${subject} logits`, part(found.logits), part(logits), LOGIT_TOLERANCE);
}

let shared: Engine | null = null;
afterAll(() => shared?.dispose());

/** At `stage`, with nothing cached. Stages that are asked for in their order take one load. */
async function engineAt(stage: number): Promise<Engine> {
  if (shared && shared.stage.index > stage) {
    shared.dispose();
    shared = null;
  }
  shared ??= await loadTestEngine(FOLDER, LOAD, FILE);
  if (shared.stage.index < stage) await shared.upgrade({ stage });
  expect(shared.stage).toMatchObject({ index: stage, name: STAGES[stage] });
  return shared;
}

describe.each(STAGES.map((name, stage) => [name, stage] as const))(
  "Crescendo 64M, moved to stage %s with nothing cached",
  TIMEOUT,
  (name, stage) => {
    const subject = `Crescendo 64M stage ${name}`;

    test("has the layers, the residuals and the logits of the reference", async () => {
      const engine = await engineAt(stage);
      const { layers, ids } = referenceOf(stage);
      expect([...stageContents(engine.plan, stage).layers].sort((a, b) => a - b)).toEqual(layers);
      expectStage(subject, stage, await evaluateAll(engine, { ids, hidden: true }), 0, ids.length);
    });

    longTest("has the reference's mean NLL of each text", async () => {
      const engine = await engineAt(stage);
      for (const { ids, mean_nll } of referenceOf(stage).texts) {
        const nll = new NegativeLogLikelihood(ids, engine.config.vocabSize);
        await engine.evaluate({ ids, onLogits: (firstRow, rows) => nll.add(firstRow, rows) });
        expectGolden(`${subject} relative NLL`, [nll.mean / mean_nll - 1], [0], NLL_TOLERANCE);
      }
    });

    async function expectChats(isMeant: (chat: ReferenceChat) => boolean): Promise<void> {
      const engine = await engineAt(stage);
      const chats = referenceOf(stage).chats.filter(isMeant);
      expect(chats).not.toEqual([]);
      for (const chat of chats) {
        const { prompt_ids, greedy } = chat;
        const stopIds = [...engine.tokenizer.stopIds];
        const { ids } = await engine.generateIds(prompt_ids, { temperature: 0, maxTokens: greedy.length, stopIds });
        expect(ids, questionOf(chat)).toEqual(greedy);
      }
    }

    // Each stage has a sum of its own: 13, 11 and 12. A software adapter takes seconds even for the first stage's.
    const isSum = (chat: ReferenceChat) => questionOf(chat) === "What is 5 plus 7?";
    const testSum = stage === 0 ? test : longTest;
    testSum("adds 5 and 7 as the reference does", () => expectChats(isSum));
    longTest("answers the other chats as the reference does, token for token", () => expectChats((chat) => !isSum(chat)));
  },
);

describe("Crescendo 64M, upgraded in the middle of a text", TIMEOUT, () => {
  const policy = "blocking";

  /** `length` ids, from stage `first` on; after each upgrade they are held to the stage that it leads to. */
  async function expectUpgraded(subject: string, first: number, upgrades: readonly EvaluationUpgrade[], length: number): Promise<void> {
    const engine = await loadTestEngine(FOLDER, LOAD, FILE);
    try {
      if (first > 0) await engine.upgrade({ stage: first });
      const ids = referenceOf(STAGES.length - 1).ids.slice(0, length);
      const { vocabSize } = engine.config;
      const logits = new Float32Array(length * vocabSize);
      const onLogits = (row: number, rows: Float32Array) => logits.set(rows, row * vocabSize);
      const { hidden } = await engine.evaluate({ ids, hidden: true, onLogits }, upgrades);
      const spans = [{ at: 0, stage: first }, ...upgrades];
      for (const [index, { at, stage = STAGES.length - 1 }] of spans.entries()) {
        expectStage(subject, stage, { hidden, logits }, at, spans[index + 1]?.at ?? length);
      }
    } finally {
      engine.dispose();
    }
  }

  // Smaller models take this way in upgrade.test.ts.
  longTest("from A to B to C, is at each position the stage that it has come to", async () => {
    const upgrades = [
      { at: 5, stage: 1, policy },
      { at: 11, stage: 2, policy },
    ] as const;
    await expectUpgraded("Crescendo 64M upgraded", 0, upgrades, 24);
  });

  longTest("from A to C, and from B to C, is C from there on", async () => {
    for (const first of [0, 1]) await expectUpgraded("Crescendo 64M upgraded to C", first, [{ at: 8, stage: 2, policy }], 24);
  });

  longTest("with K/V that went over a snapshot or was computed anew, is C from there on", async () => {
    for (const carry of ["restore", "recompute"] as const) {
      await expectUpgraded("Crescendo 64M upgraded, K/V carried", 0, [{ at: 13, stage: 2, policy, carry }], 24);
    }
  });
});

/** At its first stage, without the face that hides what comes when. */
async function withStagedModel(use: (model: StagedCore) => Promise<void>): Promise<void> {
  const model = await loadStagedCore(testModelFiles(FOLDER, FILE), await readTestJson(`${FOLDER}/progressive.json`), OPTIONS);
  try {
    await use(model);
  } finally {
    model.dispose();
  }
}

describe("Crescendo 64M, upgraded in the middle of an answer", TIMEOUT, () => {
  /** Greedy, with an upgrade after some tokens: gives the ids, and of each the stage that it is from. */
  async function sayUpgraded({ core }: StagedCore, prompt: readonly number[], upgrade: UpgradeRequest, after: number, maxTokens: number) {
    const sequence = core.createSequence();
    sequence.append(prompt);
    const stages: number[] = [];
    let upgraded: Promise<unknown> | undefined;
    await continueSequence(core, sequence, {
      maxTokens,
      onToken: (_, stage) => {
        if (stages.push(stage) === after) upgraded = core.upgrade(upgrade);
        return true;
      },
    });
    await upgraded;
    const ids = sequence.tokens.slice(prompt.length);
    await core.releaseSequence(sequence);
    return { ids, stages };
  }

  async function expectAnswer(from: number, to: number): Promise<void> {
    // The stages part within its first words.
    const chat = referenceOf(from).chats.find((asked) => questionOf(asked) === "What is a volcano?");
    const { prompt_ids: prompt, greedy } = present(chat, "the chat");
    await withStagedModel(async (model) => {
      const { core, load } = model;
      if (from > 0) await core.upgrade({ stage: from, weights: await load(from, core.stage), policy: "blocking" });
      const upgrade = { stage: to, weights: await load(to, core.stage), policy: "background" } as const;
      const { ids, stages } = await sayUpgraded(model, prompt, upgrade, 2, greedy.length);
      const cut = stages.indexOf(to);
      expect(cut).toBeGreaterThan(0);
      expect(stages).toEqual(stages.map((_, index) => (index < cut ? from : to)));
      expect(ids.slice(0, cut)).toEqual(greedy.slice(0, cut));
      expect(ids.slice(cut)).not.toEqual(greedy.slice(cut));
      const afresh = await generateAfresh(core, [...prompt, ...ids.slice(0, cut)], { maxTokens: ids.length - cut });
      expect(ids.slice(cut), `from token ${cut} on`).toEqual(afresh);
    });
  }

  longTest("from A to B, goes on as B would after the same tokens", () => expectAnswer(0, 1));
  longTest("from A to C, goes on as C would after the same tokens", () => expectAnswer(0, 2));
  longTest("from B to C, goes on as C would after the same tokens", () => expectAnswer(1, 2));
});

/** `files`, with each read told of. */
function countedFiles(files: ModelFiles, onRequest: (bytes: number) => void): ModelFiles {
  return {
    ...files,
    open: async (file, signal) => {
      const source = await files.open(file, signal);
      const read: ByteSource["read"] = (range, readSignal) => {
        onRequest(range.end - range.start);
        return present(source, file).read(range, readSignal);
      };
      return source && { ...source, read };
    },
  };
}

test("Crescendo 64M in its stages asks for at most 1 % more bytes than whole, and to begin with for its first stage and 5 %", async () => {
  let bytes = 0;
  const files = countedFiles(testModelFiles(FOLDER, FILE), (count) => {
    bytes += count;
  });
  const load = async (plan: "auto" | "whole") => loadEngine(files, { ...LOAD, plan, shareDeviceWith: await sharingEngine() });
  // Where the stages end in the file. Its header is read with some bytes ahead, which are asked for twice.
  const [endA, endB, endC] = [19_934_144, 27_915_200, 39_886_784];

  const staged = await load("auto");
  const first = bytes;
  expect(first).toBeLessThanOrEqual(1.05 * endA);
  await staged.upgrade({ stage: 1 });
  const second = bytes;
  expect(second - first).toBeLessThanOrEqual(1.01 * (endB - endA));
  await staged.upgrade({ stage: 2 });
  const all = bytes;
  expect(all - second).toBeLessThanOrEqual(1.01 * (endC - endB));
  staged.dispose();

  bytes = 0;
  (await load("whole")).dispose();
  expect(all).toBeLessThanOrEqual(1.01 * bytes);
});
