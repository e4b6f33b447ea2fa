// The size of the default plan's first stage in files of real models: tensor sizes and types from the files, sums computed by hand.
import { describe, expect, test } from "vitest";
import {
  directoryOf,
  type StoredTensor,
  TENSOR_BLOCKS,
  type TensorDirectory,
  type TensorType,
} from "../../../src/formats/tensor-directory";
import { defaultPlan } from "../../../src/stages/default-plan";
import { ModelRecipe } from "../../../src/stages/model-recipe";
import { stageContents } from "../../../src/stages/plan";
import type { ModelConfig } from "../../../src/weights/model-config";
import { countRows, type RowSet } from "../../../src/weights/row-set";
import { memorySource } from "../../support/memory-source";

interface FileShape {
  readonly config: Pick<
    ModelConfig,
    "family" | "layerCount" | "hiddenSize" | "headCount" | "kvHeadCount" | "headDim" | "intermediateSize" | "vocabSize" | "qkvBias"
  >;
  readonly embedding: TensorType;
  /** Absent if the embedding is also the head. */
  readonly head?: TensorType;
  readonly layer: TensorType;
  /** Type of down and v in some layers. */
  readonly down?: (layer: number) => TensorType;
  readonly value?: (layer: number) => TensorType;
  readonly requiredRows: RowSet;
}

interface FirstStage {
  /** Bytes of all tensors. */
  readonly totalBytes: number;
  readonly absentLayers: readonly number[];
  readonly absentBytes: number;
  readonly rowCount: number;
  readonly rowBytes: number;
  readonly stageBytes: number;
  /** Percentage of all tensors. */
  readonly share: number;
}

/** In Q4_K_M files llama.cpp gives v and down more bits in the first and the last eighth of the layers, and in every third between. */
function hasMoreBits(layer: number, layerCount: number): boolean {
  const eighth = Math.floor(layerCount / 8);
  return layer < eighth || layer >= Math.floor((7 * layerCount) / 8) || (layer - eighth) % 3 === 2;
}

const QWEN_ROWS = [{ start: 151_643, end: 151_665 }]; // added tokens; those of single bytes are the first
const QWEN = { family: "qwen2", vocabSize: 151_936, qkvBias: true, requiredRows: QWEN_ROWS } as const;

const MODELS: readonly (readonly [string, FileShape, FirstStage])[] = [
  [
    "SmolLM2-135M Q4_1",
    {
      config: {
        ...{ family: "llama", vocabSize: 49_152, qkvBias: false, layerCount: 30, hiddenSize: 576, intermediateSize: 1536 },
        ...{ headCount: 9, kvHeadCount: 3, headDim: 64 },
      },
      embedding: "Q8_0",
      layer: "Q4_1",
      requiredRows: [{ start: 0, end: 273 }],
    },
    {
      totalBytes: 96_576_768, // the file's 98,362,432 less 1,785,664 of metadata
      absentLayers: [13, 14, 15, 16], // 30 / 8 = 3.75
      absentBytes: 4 * 2_216_448,
      rowCount: 21_504, // 0.43 · 49,152 = 21,135.4, up to 21 · 1024
      rowBytes: 612,
      stageBytes: 70_790_400, // 26 · 2,216,448 + 21,504 · 612 + 2,304
      share: 73.3,
    },
  ],
  [
    "Qwen2.5-Coder-0.5B Q4_K_M",
    {
      config: { ...QWEN, layerCount: 24, hiddenSize: 896, intermediateSize: 4864, headCount: 14, kvHeadCount: 2, headDim: 64 },
      embedding: "Q5_0",
      head: "Q8_0",
      layer: "Q5_0",
      down: (layer) => (hasMoreBits(layer, 24) ? "Q6_K" : "Q4_K"),
      value: (layer) => (hasMoreBits(layer, 24) ? "Q8_0" : "Q5_0"),
      requiredRows: QWEN_ROWS,
    },
    {
      totalBytes: 485_452_288, // 266,742,784 + 146,105,344 + 42,900,480 + 29,417,472 + 286,208
      absentLayers: [10, 11, 12], // 24 / 8 = 3
      absentBytes: 2 * 9_717_248 + 10_883_840,
      rowCount: 65_558, // 0.43 · 151,936 = 65,332.5, up to 64 · 1024, and 22 added tokens
      rowBytes: 1568,
      stageBytes: 319_693_248, // 10 · 9,717,248 + 11 · 10,883,840 + 65,558 · 1568 + 3,584
      share: 65.9,
    },
  ],
  [
    "Qwen2.5-Coder-1.5B Q4_K_M",
    {
      config: { ...QWEN, layerCount: 28, hiddenSize: 1536, intermediateSize: 8960, headCount: 12, kvHeadCount: 2, headDim: 128 },
      embedding: "Q4_K",
      head: "Q6_K",
      layer: "Q4_K",
      down: (layer) => (hasMoreBits(layer, 28) ? "Q6_K" : "Q4_K"),
      value: (layer) => (hasMoreBits(layer, 28) ? "Q6_K" : "Q4_K"),
      requiredRows: QWEN_ROWS,
    },
    {
      totalBytes: 1_111_370_240, // 756,781,056 + 354,009,600 + 579,584
      absentLayers: [12, 13, 14, 15], // 28 / 8 = 3.5
      absentBytes: 3 * 26_341_376 + 29_990_912,
      rowCount: 65_558,
      rowBytes: 2124,
      stageBytes: 818_888_328, // 11 · 26,341,376 + 13 · 29,990,912 + 65,558 · 2124 + 6,144
      share: 73.7,
    },
  ],
];

/** The tensors of a GGUF, without any contents. */
function directory({ config, embedding, head, layer: layerType, down, value }: FileShape): TensorDirectory {
  const { layerCount, hiddenSize, headCount, kvHeadCount, headDim, intermediateSize, vocabSize, qkvBias } = config;
  const kvSize = kvHeadCount * headDim;
  const stored: StoredTensor[] = [];
  let end = 0;
  const source = memorySource(new Uint8Array(), { size: 2 ** 31 });
  const add = (name: string, type: TensorType, ...shape: number[]) => {
    const { elements, bytes } = TENSOR_BLOCKS[type];
    const start = end;
    end += (shape.reduce((product, size) => product * size) / elements) * bytes;
    stored.push({ name, type, shape, source, range: { start, end } });
  };
  add("token_embd.weight", embedding, vocabSize, hiddenSize);
  add("output_norm.weight", "F32", hiddenSize);
  if (head) add("output.weight", head, vocabSize, hiddenSize);
  for (let layer = 0; layer < layerCount; layer++) {
    const name = (part: string) => `blk.${layer}.${part}`;
    for (const norm of ["attn_norm", "ffn_norm"]) add(name(`${norm}.weight`), "F32", hiddenSize);
    add(name("attn_q.weight"), layerType, headCount * headDim, hiddenSize);
    add(name("attn_k.weight"), layerType, kvSize, hiddenSize);
    add(name("attn_v.weight"), value?.(layer) ?? layerType, kvSize, hiddenSize);
    if (qkvBias) {
      add(name("attn_q.bias"), "F32", headCount * headDim);
      for (const part of ["attn_k.bias", "attn_v.bias"]) add(name(part), "F32", kvSize);
    }
    add(name("attn_output.weight"), layerType, hiddenSize, headCount * headDim);
    for (const part of ["ffn_gate.weight", "ffn_up.weight"]) add(name(part), layerType, intermediateSize, hiddenSize);
    add(name("ffn_down.weight"), down?.(layer) ?? layerType, hiddenSize, intermediateSize);
  }
  return directoryOf(stored, { format: "gguf", name: "model.gguf", metadata: new Map() });
}

describe.each(MODELS)("by the default plan of %s", (_, shape, expected) => {
  const config: ModelConfig = {
    ...{ maxPositions: 8192, rope: { theta: 10_000, dimensions: shape.config.headDim }, norm: "rms", normEpsilon: 1e-5 },
    ...{ activation: "silu-gated", parallelBlock: false, separateMlpNorm: false, slidingWindow: null, tiedEmbedding: !shape.head },
    ...shape.config,
  };
  const recipe = new ModelRecipe(config, directory(shape), {});
  const { layerBytes, rowBytes, otherBytes } = recipe;
  const { layerCount, vocabSize } = config;
  const plan = defaultPlan({ layerCount, vocabSize, layerBytes, rowBytes, otherBytes, requiredRows: shape.requiredRows });

  test("the first stage omits the middle layers and the last rows, and has the expected share of the bytes", () => {
    const { layers, rows } = stageContents(plan, 0);
    const absentLayers = [...Array(layerCount).keys()].filter((layer) => !layers.has(layer));
    const stageBytes = recipe.unitBytes(plan.stages[0]?.units ?? []) + otherBytes;
    expect({
      totalBytes: recipe.totalBytes,
      absentLayers,
      absentBytes: absentLayers.reduce((sum, layer) => sum + (layerBytes[layer] ?? 0), 0),
      rowCount: countRows(rows),
      rowBytes,
      stageBytes,
      share: Math.round((1000 * stageBytes) / recipe.totalBytes) / 10,
    }).toEqual(expected);
  });

  test("the later stages bring exactly the rest", () => {
    const later = plan.stages.slice(1).map(({ units }) => recipe.unitBytes(units));
    expect(later).toEqual([expected.absentBytes, (vocabSize - expected.rowCount) * expected.rowBytes]);
    expect(expected.stageBytes + later.reduce((sum, bytes) => sum + bytes, 0)).toBe(expected.totalBytes);
  });
});
