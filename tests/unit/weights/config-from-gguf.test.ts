import { describe, expect, test } from "vitest";
import { directoryOf, type MetadataValue, type StoredTensor, type TensorDirectory } from "../../../src/formats/tensor-directory";
import { configFromGguf } from "../../../src/weights/config-from-gguf";
import { expectLlmError } from "../../support/expect-llm-error";
import { memorySource } from "../../support/memory-source";

const LLAMA: Readonly<Record<string, MetadataValue>> = {
  "general.architecture": "llama",
  "llama.block_count": 6,
  "llama.context_length": 512,
  "llama.embedding_length": 64,
  "llama.feed_forward_length": 176,
  "llama.attention.head_count": 4,
  "llama.attention.head_count_kv": 2,
  "llama.attention.layer_norm_rms_epsilon": 1e-5,
};

const TABLE: Tensors = { "token_embd.weight": { shape: [512, 64] } };

type Tensors = Readonly<Record<string, { readonly shape: readonly number[]; readonly values?: readonly number[]; readonly type?: string }>>;

function directory(metadata: Readonly<Record<string, MetadataValue | undefined>>, tensors: Tensors = TABLE): TensorDirectory {
  const stored = Object.entries(tensors).map(([name, { shape, values = [], type = "F32" }]): StoredTensor => {
    const bytes = new Uint8Array(Float32Array.from(values).buffer);
    return { name, type, shape, source: memorySource(bytes, { name: "model.gguf" }), range: { start: 0, end: bytes.length } };
  });
  const known = Object.entries(metadata).filter((entry): entry is [string, MetadataValue] => entry[1] !== undefined);
  return directoryOf(stored, { format: "gguf", name: "model.gguf", metadata: new Map(known) });
}

test("sizes come from the metadata, the vocabulary from the table's rows, and a missing head means a tied one", async () => {
  expect(await configFromGguf(directory({ ...LLAMA, "llama.vocab_size": 500 }))).toEqual({
    family: "llama",
    layerCount: 6,
    hiddenSize: 64,
    headCount: 4,
    kvHeadCount: 2,
    headDim: 16,
    intermediateSize: 176,
    vocabSize: 512,
    maxPositions: 512,
    rope: { theta: 10000, dimensions: 16 },
    norm: "rms",
    normEpsilon: 1e-5,
    activation: "silu-gated",
    parallelBlock: false,
    separateMlpNorm: false,
    qkvBias: false,
    tiedEmbedding: true,
    slidingWindow: null,
  });
});

test("a head of an unknown type does not count as tied", async () => {
  const { tiedEmbedding } = await configFromGguf(directory(LLAMA, { ...TABLE, "output.weight": { shape: [512, 64], type: "Q2_K" } }));
  expect(tiedEmbedding).toBe(false);
});

test("an array with one number for each layer is accepted if all are equal, and refused otherwise", async () => {
  const key = "llama.attention.head_count_kv";
  expect((await configFromGguf(directory({ ...LLAMA, [key]: new Float64Array(6).fill(2) }))).kvHeadCount).toBe(2);
  await expectLlmError(configFromGguf(directory({ ...LLAMA, [key]: new Float64Array([2, 2, 4, 4, 4, 4]) })), "unsupported", key, "2,2,4");
});

test("head sizes, K/V heads and theta have llama.cpp's defaults and can be stated", async () => {
  const without = await configFromGguf(directory({ ...LLAMA, "llama.attention.head_count_kv": undefined }));
  expect(without).toMatchObject({ kvHeadCount: 4, headDim: 16, rope: { theta: 10000 } });
  const stated = { "llama.attention.key_length": 32, "llama.attention.value_length": 32, "llama.rope.dimension_count": 32 };
  const config = await configFromGguf(directory({ ...LLAMA, ...stated, "llama.rope.freq_base": 5e5 }));
  expect(config).toMatchObject({ headDim: 32, rope: { theta: 5e5, dimensions: 32 } });
});

describe("rotary divisors", () => {
  const divisors = (values: readonly number[]) => ({ ...TABLE, "rope_freqs.weight": { shape: [values.length], values } });

  test("are read from their tensor", async () => {
    const values = [1, 1, 2, 4, 8, 8, 8, 8];
    expect((await configFromGguf(directory(LLAMA, divisors(values)))).rope.frequencyDivisors).toEqual(values);
  });

  test("must be one positive number for each pair", async () => {
    await expectLlmError(configFromGguf(directory(LLAMA, divisors([1, 2]))), "bad-weights", "rope_freqs.weight", "[2]", "[8]");
    await expectLlmError(configFromGguf(directory(LLAMA, divisors([1, 1, 1, 0, 1, 1, 1, 1]))), "bad-weights", "divisor 0 of rotary pair 3");
  });
});

describe("refusals", () => {
  test("the error for an unknown architecture lists the known ones, without mistral, which llama.cpp does not have", async () => {
    for (const architecture of ["gemma3", "mistral"]) {
      const refused = configFromGguf(directory({ ...LLAMA, "general.architecture": architecture }));
      await expectLlmError(refused, "unsupported", `"${architecture}"`, "falcon, llama, qwen2");
    }
    await expectLlmError(configFromGguf(directory({})), "bad-config", "general.architecture", "missing");
  });

  test.each([
    ["expert_count", 8],
    ["attention.value_length", 32],
    ["rope.dimension_count", 8],
    ["rope.scaling.type", "yarn"],
    ["rope.scaling.factor", 4],
    ["rope.scale_linear", 2],
    ["attention.max_alibi_bias", 8],
    ["final_logit_softcapping", 30],
  ])("llama.%s = %j is refused because it changes what a layer computes", async (key, value) => {
    await expectLlmError(configFromGguf(directory({ ...LLAMA, [`llama.${key}`]: value })), "unsupported", `llama.${key}`, "model.gguf");
  });

  test("a key that is switched off is accepted", async () => {
    const off = { "llama.expert_count": 0, "llama.rope.scaling.type": "none", "llama.attention.sliding_window": 0 };
    expect((await configFromGguf(directory({ ...LLAMA, ...off }))).slidingWindow).toBeNull();
  });

  test.each(Object.keys(LLAMA).filter((key) => !["general.architecture", "llama.attention.head_count_kv"].includes(key)))(
    "%s must be there, and a number above 0",
    async (key) => {
      for (const value of [undefined, -1, "4", 2n ** 60n]) {
        await expectLlmError(configFromGguf(directory({ ...LLAMA, [key]: value })), "bad-config", key);
      }
    },
  );

  test("a checkpoint without a table, or with a wrong one, is refused", async () => {
    await expectLlmError(configFromGguf(directory(LLAMA, {})), "bad-weights", "token_embd.weight", "missing");
    await expectLlmError(configFromGguf(directory(LLAMA, { "token_embd.weight": { shape: [64] } })), "bad-weights", "[64]");
  });
});
