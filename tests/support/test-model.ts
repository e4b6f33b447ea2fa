// Models for engine tests: the golden checkpoints and the real ones, from wherever the test runs.
import { readSafetensors } from "../../src/formats/safetensors";
import { type Engine, type Evaluation, type EvaluationRequest, type LoadOptions, loadEngine, type ModelFiles } from "../../src/index";
import { readTensorIds, readTensorValues } from "./safetensors-values";
import { hasTestFile, openTestFile } from "./test-files";

/** The files of a folder of the repository, or of ../shared beside it. */
export function testModelFiles(folder: string, weightsFile: string | null = null): ModelFiles {
  return {
    name: folder,
    weightsFile,
    open: async (file) => ((await hasTestFile(`${folder}/${file}`)) ? openTestFile(`${folder}/${file}`) : null),
  };
}

let sharing: Promise<Engine> | undefined;

/** Holds a device for the engines of all files of a page: SwiftShader takes seconds for a pipeline, and so compiles each once. */
export function sharingEngine(): Promise<Engine> {
  sharing ??= loadEngine(testModelFiles("tests/golden/llama-gqa"), {
    defaultLimits: true,
    without: ["subgroup-matrix"], // whose halves golden logits are not to have
    needsTokenizer: false,
    contextLength: 128,
    chunkRows: 72,
  });
  return sharing;
}

export async function loadTestEngine(folder: string, options: LoadOptions = {}, weightsFile: string | null = null): Promise<Engine> {
  return loadEngine(testModelFiles(folder, weightsFile), {
    shareDeviceWith: await sharingEngine(),
    plan: "whole",
    prefixCache: false,
    ...options,
  });
}

export const GOLDEN_CASES = [
  "llama-gqa",
  "llama3-rope-tied",
  "mistral-window",
  "falcon-mqa-parallel",
  "falcon-new-arch",
  "qwen2-bias",
] as const;

export interface Golden {
  readonly ids: readonly number[];
  readonly greedy: readonly number[];
  /** [ids, vocab]. */
  readonly logits: Float32Array;
  /** [layers + 1] of [ids, hidden]; the last one is after the final norm. */
  readonly hidden: readonly Float32Array[];
}

export async function readGolden(folder: string): Promise<Golden> {
  const directory = await readSafetensors(await openTestFile(`${folder}/golden.safetensors`));
  const names = [...directory.tensors.keys()].filter((name) => name.startsWith("hidden."));
  return {
    ids: await readTensorIds(directory, "input_ids"),
    greedy: await readTensorIds(directory, "greedy"),
    logits: await readTensorValues(directory, "logits"),
    hidden: await Promise.all(names.map((_, layer) => readTensorValues(directory, `hidden.${layer}`))),
  };
}

/** The logits of every position, [ids, vocab], and the hidden states where asked for. */
export async function evaluateAll(
  engine: Pick<Engine, "config"> & { evaluate(request: EvaluationRequest): Promise<Evaluation> },
  request: Omit<EvaluationRequest, "onLogits">,
) {
  const { vocabSize } = engine.config;
  const logits = new Float32Array(request.ids.length * vocabSize);
  const { hidden } = await engine.evaluate({ ...request, onLogits: (firstRow, rows) => logits.set(rows, firstRow * vocabSize) });
  return { logits, hidden };
}
