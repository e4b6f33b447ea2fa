import { describe, expect, test } from "vitest";
import type { LlmError, LlmErrorCode } from "../../../src/errors";
import { configFromJson } from "../../../src/weights/config-from-json";
import { readTestJson } from "../../support/test-files";

type Json = Record<string, unknown>;

const LLAMA = {
  model_type: "llama",
  hidden_size: 64,
  intermediate_size: 176,
  num_hidden_layers: 6,
  num_attention_heads: 4,
  vocab_size: 512,
};
const MISTRAL = { ...LLAMA, model_type: "mistral" };
const QWEN2 = { ...LLAMA, model_type: "qwen2", num_key_value_heads: 2 };
const FALCON = { model_type: "falcon", hidden_size: 64, num_hidden_layers: 6, num_attention_heads: 4, vocab_size: 512 };

function read(json: unknown) {
  return configFromJson(json, "config.json");
}

function expectRefused(json: unknown, code: LlmErrorCode, ...words: readonly string[]): void {
  let error: LlmError | undefined;
  try {
    read(json);
  } catch (caught) {
    error = caught as LlmError;
  }
  expect(error?.code, `${JSON.stringify(json)}: ${error?.message ?? "accepted"}`).toBe(code);
  for (const word of ["config.json", ...words]) expect(error?.message).toContain(word);
}

describe("golden configurations", () => {
  const golden = async (name: string) => read(await readTestJson(`tests/golden/${name}/config.json`));

  test("llama-gqa", async () => {
    expect(await golden("llama-gqa")).toEqual({
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
      tiedEmbedding: false,
      slidingWindow: null,
    });
  });

  test("mistral-window has a head size that is not hidden/heads, and a window", async () => {
    expect(await golden("mistral-window")).toMatchObject({ family: "mistral", headDim: 32, slidingWindow: 16, tiedEmbedding: false });
  });

  test("qwen2-bias has a bias on q, k and v, and no window", async () => {
    expect(await golden("qwen2-bias")).toMatchObject({ family: "qwen2", qkvBias: true, slidingWindow: null, tiedEmbedding: true });
  });

  test("falcon-mqa-parallel has one K/V head, ignoring num_kv_heads, and one norm for both", async () => {
    expect(await golden("falcon-mqa-parallel")).toMatchObject({
      kvHeadCount: 1,
      intermediateSize: 256,
      norm: "layer",
      activation: "gelu",
      parallelBlock: true,
      separateMlpNorm: false,
      tiedEmbedding: true,
    });
  });

  test("falcon-new-arch has grouped K/V heads and a norm for the MLP", async () => {
    expect(await golden("falcon-new-arch")).toMatchObject({ kvHeadCount: 2, parallelBlock: true, separateMlpNorm: true });
  });

  test("llama3-rope-tied keeps short wavelengths, stretches long ones by 8, and blends those in between", async () => {
    const { rope } = await golden("llama3-rope-tied");
    // Wavelengths of head dimension 16 and theta 500000: 6.28, 32.4, 167 … positions; bounds are 64/4 = 16 and 64/1 = 64.
    const turns = 64 / (2 * Math.PI * 500000 ** (1 / 8));
    const smooth = (turns - 1) / 3;
    expect(rope).toEqual({
      theta: 500000,
      dimensions: 16,
      frequencyDivisors: [1, 1 / ((1 - smooth) / 8 + smooth), 8, 8, 8, 8, 8, 8],
    });
  });
});

describe("what a file leaves out", () => {
  test("has Llama's defaults", () => {
    expect(read(LLAMA)).toMatchObject({
      kvHeadCount: 4,
      headDim: 16,
      maxPositions: 2048,
      normEpsilon: 1e-6,
      rope: { theta: 10000, dimensions: 16 },
      tiedEmbedding: false,
    });
  });

  test("has Mistral's defaults: eight K/V heads and a window of 4096", () => {
    expect(read({ ...MISTRAL, num_attention_heads: 8, hidden_size: 128 })).toMatchObject({
      kvHeadCount: 8,
      maxPositions: 131072,
      slidingWindow: 4096,
    });
  });

  test("and sets to null are treated differently", () => {
    expect(read({ ...MISTRAL, num_key_value_heads: null, sliding_window: null })).toMatchObject({ kvHeadCount: 4, slidingWindow: null });
    expect(read({ ...LLAMA, head_dim: null, rope_scaling: null, num_key_value_heads: null })).toMatchObject({
      headDim: 16,
      kvHeadCount: 4,
    });
  });

  test("has Falcon's defaults: multi-query, four times the hidden size, tied", () => {
    expect(read(FALCON)).toMatchObject({
      kvHeadCount: 1,
      intermediateSize: 256,
      maxPositions: 2048,
      normEpsilon: 1e-5,
      tiedEmbedding: true,
    });
    expect(read({ ...FALCON, multi_query: false })).toMatchObject({ kvHeadCount: 4 });
    expect(read({ ...FALCON, new_decoder_architecture: true, num_kv_heads: 2 })).toMatchObject({ kvHeadCount: 2, separateMlpNorm: true });
    expect(read({ ...FALCON, new_decoder_architecture: true, num_ln_in_parallel_attn: 1 })).toMatchObject({ separateMlpNorm: false });
  });
});

describe("rotary embedding", () => {
  const llama3 = { factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 64 };

  test("reads the same from transformers 5's layout and from the older one", () => {
    const current = read({ ...LLAMA, rope_parameters: { ...llama3, rope_type: "llama3", rope_theta: 500000 } });
    expect(current.rope.frequencyDivisors?.length).toBe(8);
    expect(read({ ...LLAMA, rope_theta: 500000, rope_scaling: { ...llama3, rope_type: "llama3" } })).toEqual(current);
    expect(read({ ...LLAMA, rope_theta: 500000, rope_scaling: { ...llama3, type: "llama3" } })).toEqual(current);
    expect(read({ ...LLAMA, rope_theta: 1e6, rope_scaling: { type: "default" } }).rope).toEqual({ theta: 1e6, dimensions: 16 });
  });

  test.each(["linear", "dynamic", "yarn", "longrope", "su"])("of type %s is refused by name", (type) => {
    expectRefused({ ...LLAMA, rope_scaling: { type, factor: 2 } }, "unsupported", type, "llama3");
    expectRefused({ ...QWEN2, rope_parameters: { rope_type: type, rope_theta: 1e6 } }, "unsupported", type);
  });

  test("of only a part of the head is refused", () => {
    expectRefused({ ...LLAMA, partial_rotary_factor: 0.5 }, "unsupported", "partial_rotary_factor");
    expectRefused({ ...LLAMA, rope_parameters: { partial_rotary_factor: 0.5 } }, "unsupported", "partial_rotary_factor");
  });

  test("with llama3 scaling needs all its numbers", () => {
    for (const key of Object.keys(llama3)) {
      expectRefused({ ...LLAMA, rope_scaling: { ...llama3, rope_type: "llama3", [key]: undefined } }, "bad-config", key);
      expectRefused({ ...LLAMA, rope_scaling: { ...llama3, rope_type: "llama3", [key]: -1 } }, "bad-config", key, "-1");
    }
    expectRefused({ ...LLAMA, rope_scaling: { ...llama3, rope_type: "llama3", high_freq_factor: 1 } }, "bad-config", "high_freq_factor");
  });
});

describe("sliding windows", () => {
  test("of Qwen2 count only if they are switched on", () => {
    expect(read({ ...QWEN2, sliding_window: 4096 }).slidingWindow).toBeNull();
    expect(read({ ...QWEN2, use_sliding_window: true, sliding_window: 4096 }).slidingWindow).toBeNull(); // from layer 28 on, of 6
    expect(read({ ...QWEN2, use_sliding_window: true, sliding_window: 16, max_window_layers: 0 }).slidingWindow).toBe(16);
  });

  test("that cover only some layers are refused", () => {
    expectRefused({ ...QWEN2, use_sliding_window: true, max_window_layers: 3 }, "unsupported", "max_window_layers");
    const mixed = ["sliding_attention", "full_attention", ...new Array<string>(4).fill("sliding_attention")];
    expectRefused({ ...MISTRAL, num_key_value_heads: 4, layer_types: mixed }, "unsupported", "layer_types");
  });
});

describe("refusals", () => {
  test.each([null, [], "text", 3])("%j is refused as a config.json", (json) => expectRefused(json, "bad-config"));

  test("the error for an unknown architecture lists the known ones", () => {
    expectRefused({ ...LLAMA, model_type: "gpt_neox" }, "unsupported", '"gpt_neox"', "falcon, llama, mistral, qwen2");
    expectRefused({ ...LLAMA, model_type: undefined }, "bad-config", "model_type", "missing");
  });

  test.each([
    [{ ...LLAMA, attention_bias: true }, "attention_bias"],
    [{ ...LLAMA, mlp_bias: true }, "mlp_bias"],
    [{ ...LLAMA, hidden_act: "gelu" }, "hidden_act"],
    [{ ...LLAMA, quantization_config: { quant_method: "gptq" } }, "gptq"],
    [{ ...FALCON, alibi: true }, "alibi"],
    [{ ...FALCON, bias: true }, "bias"],
    [{ ...FALCON, parallel_attn: false }, "parallel_attn"],
    [{ ...FALCON, activation: "relu" }, "relu"],
    [{ ...FALCON, num_ln_in_parallel_attn: 2 }, "num_ln_in_parallel_attn"],
  ])("a variant that we do not compute is refused: %j", (json, word) => expectRefused(json, "unsupported", word));

  const sizes = ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"];
  test.each(sizes)("%s must be a positive integer", (key) => {
    for (const value of [undefined, 0, -4, 2.5, "64", 2 ** 40, Number.NaN]) expectRefused({ ...LLAMA, [key]: value }, "bad-config", key);
  });

  test.each<[Json, string]>([
    [{ num_key_value_heads: 3 }, "K/V heads"],
    [{ num_attention_heads: 5 }, "12.8"],
    [{ head_dim: 15 }, "even"],
    [{ rms_norm_eps: 0 }, "rms_norm_eps"],
    [{ rms_norm_eps: 2 }, "epsilon"],
    [{ rope_theta: "1e4" }, "rope_theta"],
    [{ tie_word_embeddings: "yes" }, "tie_word_embeddings"],
    [{ rope_scaling: 8 }, "rope_scaling"],
    [{ max_position_embeddings: 0 }, "max_position_embeddings"],
  ])("numbers that contradict each other are refused: %j", (change, word) => expectRefused({ ...LLAMA, ...change }, "bad-config", word));
});
