// Engines that a golden model comes to in stages, moved on by hand, and what they must equal: an engine loaded at that stage.
import { expect } from "vitest";
import { type Engine, type EvaluationUpgrade, type LoadOptions, loadEngine, type ModelFiles } from "../../src/index";
import { planFile, type StageContents } from "./stage-plans";
import { evaluateAll, sharingEngine, testModelFiles } from "./test-model";

// As an upgrade may cut positions otherwise than the first computation did (I11).
export const LIMIT = 1e-3;

/** Pages that a short prompt fills, and rows enough for it in one chunk. */
export const STAGED_OPTIONS = { contextLength: 128, chunkRows: 72, pageSize: 16, kvFormat: "f32", prefixCache: false } as const;

/** The caller disposes of it. */
export async function loadStagedFiles(files: ModelFiles, stages: readonly StageContents[], options: LoadOptions = {}): Promise<Engine> {
  const shareDeviceWith = await sharingEngine();
  return loadEngine(files, {
    ...STAGED_OPTIONS,
    ...{ shareDeviceWith, needsTokenizer: false, plan: planFile(stages), delivery: "manual" },
    ...options,
  });
}

const loaded = new Map<string, Promise<Float32Array>>();

/** The logits of all ids as an engine gives them whose first stage is `stages[stage]`. Computed once for all who ask: not to be changed. */
export function loadedThere(
  name: string,
  stages: readonly StageContents[],
  stage: number,
  ids: readonly number[],
  chunk: number,
): Promise<Float32Array> {
  const plan = stages.slice(stage);
  const key = JSON.stringify([name, plan[0], plan.length > 1, ids, chunk]);
  const logits = loaded.get(key) ?? loadAndEvaluate(name, plan, ids, chunk);
  loaded.set(key, logits);
  return logits;
}

async function loadAndEvaluate(name: string, plan: readonly StageContents[], ids: readonly number[], chunk: number): Promise<Float32Array> {
  const engine = await loadStagedFiles(testModelFiles(`tests/golden/${name}`), plan);
  try {
    expect(engine.stage.index).toBe(0);
    return (await evaluateAll(engine, { ids, chunk })).logits;
  } finally {
    engine.dispose();
  }
}

/** The logits of all ids, with upgrades on the way. */
export async function upgradedThere(
  name: string,
  stages: readonly StageContents[],
  upgrades: readonly EvaluationUpgrade[],
  ids: readonly number[],
  chunk: number,
) {
  const engine = await loadStagedFiles(testModelFiles(`tests/golden/${name}`), stages);
  try {
    const { vocabSize } = engine.config;
    const logits = new Float32Array(ids.length * vocabSize);
    await engine.evaluate({ ids, chunk, onLogits: (first, rows) => logits.set(rows, first * vocabSize) }, upgrades);
    return logits;
  } finally {
    engine.dispose();
  }
}

/** All layers but those in `missing`. */
export function without(layerCount: number, ...missing: readonly number[]): StageContents {
  return { layers: Array.from({ length: layerCount }, (_, layer) => layer).filter((layer) => !missing.includes(layer)) };
}
