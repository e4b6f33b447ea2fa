// The engine holds little more GPU memory than its layouts need, says how much, and leaves none behind.
import { expect, test } from "vitest";
import type { ModelConfig } from "../../src/index";
import { paddedColumns, rowCodeBytes, rowScaleBytes, type WeightFormat } from "../../src/weight-format";
import { getTestGpu } from "../support/test-gpu";
import { type GOLDEN_CASES, loadTestEngine } from "../support/test-model";

const CONTEXT = 512;
const CHUNK = 72;

/** What a model's weights take in one format, norms and biases in f32: counted from its configuration alone. */
function weightBytes(config: ModelConfig, format: WeightFormat): number {
  const { hiddenSize, headCount, kvHeadCount, headDim, intermediateSize, vocabSize, layerCount } = config;
  const matrix = (rows: number, columns: number) => rows * (rowCodeBytes(format, columns) + rowScaleBytes(format, columns));
  const qkvRows = (headCount + 2 * kvHeadCount) * headDim;
  const upRows = config.activation === "silu-gated" ? 2 * intermediateSize : intermediateSize;
  const norm = 4 * hiddenSize * (config.norm === "layer" ? 2 : 1);
  const norms = config.parallelBlock && !config.separateMlpNorm ? 1 : 2;
  const layer =
    matrix(qkvRows, hiddenSize) +
    matrix(hiddenSize, headCount * headDim) +
    matrix(upRows, hiddenSize) +
    matrix(hiddenSize, intermediateSize) +
    norms * norm +
    (config.qkvBias ? 4 * qkvRows : 0);
  return layerCount * layer + norm + matrix(vocabSize, hiddenSize) * (config.tiedEmbedding ? 1 : 2);
}

/** K and V of CONTEXT positions in f16. */
const kvBytes = ({ layerCount, kvHeadCount, headDim }: ModelConfig) => layerCount * 2 * CONTEXT * kvHeadCount * headDim * 2;

/** A chunk's activations, the rotary table, and five values for each token of the vocabulary: logits, bias, counts, candidates. */
function scratchBytes(config: ModelConfig, software: boolean): number {
  const { hiddenSize, headCount, kvHeadCount, headDim, intermediateSize, vocabSize } = config;
  const widths = [hiddenSize, hiddenSize, (headCount + 2 * kvHeadCount) * headDim, headCount * headDim, intermediateSize];
  if (config.separateMlpNorm) widths.push(hiddenSize);
  const activations = widths.reduce((sum, width) => sum + paddedColumns(width) * 4, 0) * CHUNK;
  // A split of the context for every 256 positions: of a chunk's rows on a GPU, of one row in software.
  const partialRows = software ? 1 : CHUNK;
  const partials = (CONTEXT / 256) * partialRows * headCount * (headDim + 2) * 4;
  return activations + CONTEXT * config.rope.dimensions * 4 + partials + 5 * 4 * vocabSize;
}

// The first is bfloat16 and so f16 on the GPU, the others as their config.json says.
const FORMATS: Readonly<Record<(typeof GOLDEN_CASES)[number], WeightFormat>> = {
  "llama-gqa": "f16",
  "llama3-rope-tied": "f32",
  "mistral-window": "f32",
  "falcon-mqa-parallel": "f32",
  "falcon-new-arch": "f16",
  "qwen2-bias": "f16",
};

test.each(["llama-gqa", "qwen2-bias", "falcon-new-arch"] as const)(
  "%s holds at most 15 percent more than its layouts need",
  async (name) => {
    using engine = await loadTestEngine(`tests/golden/${name}`, { needsTokenizer: false, contextLength: CONTEXT, chunkRows: CHUNK });
    const { software } = (await getTestGpu()).features;
    const memory = engine.memory();
    const { config } = engine;
    expect(memory.weights).toBeGreaterThanOrEqual(weightBytes(config, FORMATS[name]));
    expect(memory.kv).toBe(kvBytes(config));
    expect(memory.total).toBe(memory.weights + memory.kv + memory.scratch);
    expect(memory.total).toBeLessThanOrEqual(
      1.15 * (weightBytes(config, FORMATS[name]) + kvBytes(config) + scratchBytes(config, software)),
    );
  },
);

test("running allocates nothing that stays, and nothing is left after disposal", async () => {
  const engine = await loadTestEngine("tests/golden/llama-gqa", { needsTokenizer: false, contextLength: CONTEXT, chunkRows: CHUNK });
  const before = engine.memory();
  await engine.generateIds([1, 2, 3], { temperature: 0, maxTokens: 8 });
  await engine.evaluate({ ids: [1, 2, 3], onLogits: () => undefined });
  expect(engine.memory()).toEqual(before);
  engine.dispose();
  expect(engine.memory()).toEqual({ weights: 0, kv: 0, scratch: 0, total: 0, bufferCount: 0 });
});
