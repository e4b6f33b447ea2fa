// An upgraded engine is the engine loaded at that stage from the start and fed the same ids: invariants I1 to I9 and I11 of an upgrade.
import { describe, expect, test } from "vitest";
import type { Engine, EvaluationUpgrade, LoadOptions } from "../../src/index";
import { largestDifference, planFile, type StageContents } from "../support/stage-plans";
import { evaluateAll, loadTestEngine, readGolden } from "../support/test-model";

const CASES = ["llama-gqa", "mistral-window", "falcon-new-arch", "qwen2-bias"] as const;
// As an upgrade may cut positions otherwise than the first computation did (I11).
const LIMIT = 1e-3;

async function loadStaged(name: string, stages: readonly StageContents[], options: LoadOptions = {}): Promise<Engine> {
  return loadTestEngine(`tests/golden/${name}`, {
    needsTokenizer: false,
    contextLength: 128,
    chunkRows: 72,
    pageSize: 16,
    kvFormat: "f32",
    plan: planFile(stages),
    delivery: "manual",
    ...options,
  });
}

/** The logits of all ids as an engine gives them that is at `stage` from the start. */
async function loadedThere(name: string, stages: readonly StageContents[], stage: number, ids: readonly number[], chunk: number) {
  const engine = await loadStaged(name, stages);
  try {
    await engine.upgrade({ stage });
    expect(engine.stage.index).toBe(stage);
    return (await evaluateAll(engine, { ids, chunk })).logits;
  } finally {
    engine.dispose();
  }
}

/** The logits of all ids, with upgrades on the way. */
async function upgradedThere(
  name: string,
  stages: readonly StageContents[],
  upgrades: readonly EvaluationUpgrade[],
  ids: readonly number[],
  chunk: number,
) {
  const engine = await loadStaged(name, stages);
  try {
    const { vocabSize } = engine.config;
    const logits = new Float32Array(ids.length * vocabSize);
    await engine.evaluate({ ids, chunk, onLogits: (first, rows) => logits.set(rows, first * vocabSize) }, upgrades);
    return logits;
  } finally {
    engine.dispose();
  }
}

type Stages = (layerCount: number) => readonly StageContents[];

/** All layers but those in `missing`. */
function without(layerCount: number, ...missing: readonly number[]): StageContents {
  return { layers: Array.from({ length: layerCount }, (_, layer) => layer).filter((layer) => !missing.includes(layer)) };
}

const ORDERS: Readonly<Record<string, Stages>> = {
  "that rise": (count) => [without(count, 1, 2), without(count, 2), without(count)],
  "that fall": (count) => [without(count, 1, 2), without(count, 1), without(count)],
  // The first layer is the last to come: no K/V can stay.
  "that fall to the first layer": (count) => [without(count, 0, 1), without(count, 0), without(count)],
};

describe.each(CASES)("%s", (name) => {
  test.each(Object.keys(ORDERS))("with boundaries %s, has after each upgrade the logits of an engine loaded there", async (order) => {
    const { ids, hidden, logits: golden } = await readGolden(`tests/golden/${name}`);
    const stages = ORDERS[order]?.(hidden.length - 1) ?? [];
    const chunk = 16;
    const vocabSize = golden.length / ids.length;
    const logits = await upgradedThere(
      name,
      stages,
      [
        { at: 21, stage: 1, policy: "blocking" },
        { at: 48, stage: 2, policy: "blocking" },
      ],
      ids,
      chunk,
    );
    const part = (all: Float32Array, from: number, to: number) => all.subarray(from * vocabSize, to * vocabSize);
    const spans = [
      [0, 21, 0],
      [21, 48, 1],
      [48, ids.length, 2],
    ] as const;
    for (const [from, to, stage] of spans) {
      const expected = await loadedThere(name, stages, stage, ids, chunk);
      expect(largestDifference(part(logits, from, to), part(expected, from, to)), `stage ${stage}`).toBeLessThanOrEqual(LIMIT);
    }
  });
});

describe("K/V below the boundary", () => {
  test.each(["keep", "restore", "recompute"] as const)(
    "that is carried over by %s gives the logits of an engine loaded there",
    async (carry) => {
      const { ids, hidden, logits: golden } = await readGolden("tests/golden/llama-gqa");
      const stages = ORDERS["that rise"]?.(hidden.length - 1) ?? [];
      const vocabSize = golden.length / ids.length;
      const at = 37; // two full pages and a part of one
      const upgraded = await upgradedThere("llama-gqa", stages, [{ at, stage: 2, policy: "blocking", carry }], ids, 16);
      const expected = await loadedThere("llama-gqa", stages, 2, ids, 16);
      expect(largestDifference(upgraded.subarray(at * vocabSize), expected.subarray(at * vocabSize))).toBeLessThanOrEqual(LIMIT);
    },
  );
});
