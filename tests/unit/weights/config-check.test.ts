// A model whose shape no kernel can do is refused as "unsupported" before its weights are read, never by a kernel's own assertion.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { LlmError } from "../../../src/errors";
import { layerNorm } from "../../../src/kernels/layer-norm";
import { matmulDp4a } from "../../../src/kernels/matmul-dp4a";
import { matmulSubgroupMatrix } from "../../../src/kernels/matmul-subgroup-matrix";
import { matmulTile } from "../../../src/kernels/matmul-tile";
import { matmulVector } from "../../../src/kernels/matmul-vector";
import { pagedAttentionDecode } from "../../../src/kernels/paged-attention-decode";
import { pagedAttentionPrefill } from "../../../src/kernels/paged-attention-prefill";
import { pagedAttentionReduce } from "../../../src/kernels/paged-attention-reduce";
import { residualStore } from "../../../src/kernels/residual-store";
import { rmsNorm } from "../../../src/kernels/rms-norm";
import { rotaryCache } from "../../../src/kernels/rotary-cache";
import { sampleCandidates } from "../../../src/kernels/sample-candidates";
import { samplePick } from "../../../src/kernels/sample-pick";
import { splitRows } from "../../../src/model/gpu-matrix";
import { activationStrides } from "../../../src/model/scratch";
import { checkedConfig } from "../../../src/weights/config-check";
import { configFromJson } from "../../../src/weights/config-from-json";
import type { ModelConfig } from "../../../src/weights/model-config";
import { expectLlmError } from "../../support/expect-llm-error";

const DEFAULT_BINDING_BYTES = 128 * 2 ** 20;

/** Makes the variants of all kernels that a model of this shape uses, as the engine does. Fails as an engine would, by an assertion. */
function makeVariants(config: ModelConfig, pageSize: number): void {
  const { hiddenSize, headCount, kvHeadCount, headDim, intermediateSize, vocabSize, norm, normEpsilon, activation } = config;
  const strides = activationStrides(config);
  const shape = { rows: 1, positions: 1 };
  const heads = { headCount, kvHeadCount, headDim, pageSize, kvFormat: "f16" } as const;
  const attends = { ...heads, window: config.slidingWindow, qkvStride: strides.qkv, yStride: strides.attention };
  rotaryCache.variant({ ...heads, ropeDimensions: config.rope.dimensions, qkvStride: strides.qkv });
  for (const direct of [true, false]) pagedAttentionDecode.variant({ ...attends, direct });
  for (const isSplit of [true, false]) pagedAttentionPrefill.variant({ ...attends, isSplit });
  pagedAttentionReduce.variant({ headCount, headDim, window: config.slidingWindow, yStride: strides.attention });
  residualStore.variant({ columns: hiddenSize, pageSize });
  (norm === "rms" ? rmsNorm : layerNorm).variant({ columns: hiddenSize, epsilon: normEpsilon, subgroups: false });
  const attention = headCount * headDim;
  const gated = activation === "silu-gated";
  const normed = norm === "rms" ? { normEpsilon } : {};
  const products = [
    { rows: attention + 2 * kvHeadCount * headDim, columns: hiddenSize, epilogue: "store", yStride: strides.qkv, ...normed },
    { rows: hiddenSize, columns: attention, epilogue: "add", yStride: strides.hidden },
    { rows: (gated ? 2 : 1) * intermediateSize, columns: hiddenSize, epilogue: activation, yStride: strides.mlp, ...normed },
    { rows: hiddenSize, columns: intermediateSize, epilogue: "add", yStride: strides.hidden },
    { rows: vocabSize, columns: hiddenSize, epilogue: "store", yStride: vocabSize, ...normed },
  ] as const;
  for (const { normEpsilon: epsilon, ...product } of products.map((each) => ({ normEpsilon: undefined, ...each }))) {
    for (const format of ["f32", "f16", "q8", "q4"] as const) {
      for (const { rowCount, firstRow } of splitRows({ ...product, format }, DEFAULT_BINDING_BYTES)) {
        const options = { ...product, format, rows: rowCount, bias: false, yOffset: firstRow };
        const vector = { ...options, subgroups: false, ...(epsilon === undefined ? {} : { normEpsilon: epsilon }) };
        matmulVector.variant(vector);
        matmulVector.workgroups(vector, shape);
        matmulTile.variant(options);
        matmulSubgroupMatrix.variant(options);
        if (format === "q8" || format === "q4") matmulDp4a.variant({ ...options, format });
      }
    }
  }
  for (const kernel of [sampleCandidates, samplePick]) {
    kernel.variant({ vocab: vocabSize });
    kernel.workgroups({ vocab: vocabSize }, shape);
  }
}

const MODEL: ModelConfig = {
  ...{ family: "llama", layerCount: 1, hiddenSize: 64, headCount: 4, kvHeadCount: 2, headDim: 16, intermediateSize: 96, vocabSize: 512 },
  ...{ maxPositions: 128, rope: { theta: 10_000, dimensions: 16 }, norm: "rms", normEpsilon: 1e-5, activation: "silu-gated" },
  ...{ parallelBlock: false, separateMlpNorm: false, qkvBias: false, tiedEmbedding: true, slidingWindow: null },
};

/** Often what kernels want, often a little off, sometimes anything. */
function sizes(multiple: number, most: number): fc.Arbitrary<number> {
  const whole = fc.integer({ min: 1, max: Math.floor(most / multiple) }).map((count) => count * multiple);
  return fc.oneof(
    { weight: 12, arbitrary: whole },
    whole.map((value) => value + 1),
    whole.map((value) => value + 2),
    fc.integer({ min: 1, max: most }),
  );
}

const configs = fc
  .record({
    hiddenSize: sizes(4, 1024),
    kvHeadCount: fc.integer({ min: 1, max: 9 }),
    groupHeads: fc.oneof(fc.integer({ min: 1, max: 9 }), fc.constant(1.5)),
    headDim: sizes(16, 288),
    ropePart: fc.constantFrom(1, 0.5, 0.25, 2),
    intermediateSize: fc.oneof(sizes(32, 2048), fc.constantFrom(524_288, 524_289)),
    vocabSize: fc.oneof(sizes(64, 4096), fc.constantFrom(262_144, 262_145, 2 ** 24)),
    norm: fc.constantFrom("rms", "layer"),
    activation: fc.constantFrom("silu-gated", "gelu", "gelu-tanh"),
    slidingWindow: fc.constantFrom(null, 1, 7, 4096),
  })
  .map(({ groupHeads, ropePart, ...given }): ModelConfig => {
    const headCount = Math.ceil(given.kvHeadCount * groupHeads);
    return { ...MODEL, ...given, headCount, rope: { theta: 10_000, dimensions: Math.ceil(given.headDim * ropePart) } };
  });

test("a random shape is refused in words, or every kernel takes it", () => {
  let taken = 0;
  fc.assert(
    fc.property(configs, fc.constantFrom(16, 32, 64, 128), (config, pageSize) => {
      try {
        checkedConfig(config, "config.json");
      } catch (error) {
        expect(error).toBeInstanceOf(LlmError);
        expect(["unsupported", "bad-config"]).toContain((error as LlmError).code);
        return;
      }
      taken++;
      makeVariants(config, pageSize);
    }),
    { numRuns: 1000 },
  );
  expect(taken).toBeGreaterThan(50);
});

describe("the largest and the oddest shapes that are taken have all their kernels", () => {
  test.each<[string, Partial<ModelConfig>]>([
    ["an odd intermediate size", { intermediateSize: 97 }],
    ["heads of 256 dimensions", { headDim: 256 }],
    ["eight rotary dimensions", { rope: { theta: 10_000, dimensions: 8 } }],
    ["262,144 tokens", { vocabSize: 262_144 }],
    ["seven tokens", { vocabSize: 7 }],
    ["an intermediate size of 524,288", { intermediateSize: 524_288 }],
  ])("%s", (_, changes) => {
    makeVariants(checkedConfig({ ...MODEL, ...changes }, "config.json"), 16);
  });
});

describe("refused as unsupported, with what was found and what is expected:", () => {
  const json = {
    model_type: "llama",
    num_hidden_layers: 1,
    hidden_size: 64,
    num_attention_heads: 4,
    intermediate_size: 64,
    vocab_size: 512,
  };
  test.each<[string, object, ...string[]]>([
    ["heads of 8 dimensions", { hidden_size: 32 }, "a head is 8", "multiple of 16"],
    ["heads of 40 dimensions", { head_dim: 40 }, "a head is 40", "multiple of 16"],
    ["heads of 272 dimensions", { head_dim: 272 }, "a head is 272", "at most 256"],
    ["a hidden size of 66", { hidden_size: 66, head_dim: 16 }, "hidden size is 66", "multiple of 4"],
    ["262,208 tokens", { vocab_size: 262_208 }, "262,208", "at most 262,144"],
    ["an intermediate size of a million", { intermediate_size: 1_000_000 }, "1,000,000", "at most 524,288"],
  ])("%s", async (_, changes, ...says) => {
    const read = async () => configFromJson({ ...json, ...changes }, "config.json");
    await expectLlmError(read(), "unsupported", "config.json: ", ...says, "Use another model");
  });

  test("four rotary dimensions", async () => {
    const config = { ...MODEL, rope: { theta: 10_000, dimensions: 4 } };
    await expectLlmError(
      (async () => checkedConfig(config, "a.gguf"))(),
      "unsupported",
      "a.gguf: ",
      "rotary dimensions of a head is 4",
      "multiple of 8",
    );
  });
});
