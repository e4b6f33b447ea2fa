import { describe, expect, test } from "vitest";
import { LlmError } from "../../../src/errors";
import { directoryOf, type StoredTensor, type TensorDirectory, type TensorType } from "../../../src/formats/tensor-directory";
import { configFromJson } from "../../../src/weights/config-from-json";
import { checkNothingLeftOver, layerRecipe, outerRecipe, type RecipeOptions } from "../../../src/weights/model-weights";
import { memorySource } from "../../support/memory-source";

const config = configFromJson(
  {
    model_type: "qwen2",
    hidden_size: 64,
    intermediate_size: 160,
    num_hidden_layers: 1,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    vocab_size: 512,
  },
  "config.json",
);

const layer = "model.layers.0";
const SHAPES: Readonly<Record<string, readonly number[]>> = {
  "model.embed_tokens.weight": [512, 64],
  "lm_head.weight": [512, 64],
  "model.norm.weight": [64],
  [`${layer}.input_layernorm.weight`]: [64],
  [`${layer}.post_attention_layernorm.weight`]: [64],
  [`${layer}.self_attn.q_proj.weight`]: [64, 64],
  [`${layer}.self_attn.q_proj.bias`]: [64],
  [`${layer}.self_attn.k_proj.weight`]: [32, 64],
  [`${layer}.self_attn.k_proj.bias`]: [32],
  [`${layer}.self_attn.v_proj.weight`]: [32, 64],
  [`${layer}.self_attn.v_proj.bias`]: [32],
  [`${layer}.self_attn.o_proj.weight`]: [64, 64],
  [`${layer}.mlp.gate_proj.weight`]: [160, 64],
  [`${layer}.mlp.up_proj.weight`]: [160, 64],
  [`${layer}.mlp.down_proj.weight`]: [64, 160],
};

interface Changes {
  readonly shapes?: Readonly<Record<string, readonly number[] | undefined>>;
  readonly types?: Readonly<Record<string, TensorType | "Q2_K">>;
}

function directory({ shapes = {}, types = {} }: Changes = {}): TensorDirectory {
  const source = memorySource(new Uint8Array(0), { name: "model.safetensors" });
  const stored = Object.entries({ ...SHAPES, ...shapes }).flatMap(([name, shape]): StoredTensor[] =>
    shape ? [{ name, type: types[name] ?? "BF16", shape, source, range: { start: 0, end: 0 } }] : [],
  );
  return directoryOf(stored, { format: "safetensors", name: "model.safetensors", metadata: new Map() });
}

function allRecipes(changes?: Changes, options?: RecipeOptions) {
  const [globals, first] = [outerRecipe(config, directory(changes), options), layerRecipe(config, directory(changes), 0, options)];
  return [...globals.matrices, ...first.matrices];
}

function formats(changes?: Changes, options?: RecipeOptions): Record<string, string> {
  return Object.fromEntries(allRecipes(changes, options).map(({ role, format }) => [role, format]));
}

function errorOf(run: () => unknown): LlmError {
  try {
    run();
  } catch (error) {
    if (error instanceof LlmError) return error;
  }
  throw new Error("expected an LlmError");
}

test("the sizes of the matrices are those of the configuration", () => {
  const sizes = allRecipes().map(({ role, rows, columns }) => [role, rows, columns]);
  expect(sizes).toEqual([
    ["embedding", 512, 64],
    ["head", 512, 64],
    ["qkv", 128, 64],
    ["attentionOutput", 64, 64],
    ["gateUp", 320, 64],
    ["down", 64, 160],
  ]);
  const vectors = layerRecipe(config, directory(), 0).vectors.map(({ role, length }) => [role, length]);
  expect(vectors).toEqual([
    ["attentionNormWeight", 64],
    ["mlpNormWeight", 64],
    ["qkvBias", 128],
  ]);
});

test.each(Object.keys(SHAPES))("the error for a missing %s names it, and the error for a wrong shape names both shapes", (name) => {
  const missing = errorOf(() => allRecipes({ shapes: { [name]: undefined } }));
  expect([missing.code, missing.message]).toEqual(["bad-weights", `"${name}" in model.safetensors: missing`]);
  const shape = SHAPES[name] ?? [];
  const wrong = errorOf(() => allRecipes({ shapes: { [name]: shape.map((size) => size + 32) } }));
  expect(wrong.code).toBe("bad-weights");
  expect(wrong.message).toContain(
    `"${name}" in model.safetensors: shape [${shape.map((size) => size + 32).join(", ")}], expected [${shape.join(", ")}]`,
  );
});

test("the error for a tensor of an unknown type names the tensor and the type", () => {
  const error = errorOf(() => allRecipes({ types: { [`${layer}.mlp.up_proj.weight`]: "Q2_K" } }));
  expect([error.code, error.message]).toEqual(["unsupported", expect.stringMatching(/up_proj\.weight.*Q2_K.*Q4_K/)]);
});

describe("formats", () => {
  test("each stored type has its own", () => {
    const kept = (type: TensorType) => formats({ types: { "lm_head.weight": type } }).head;
    const types: TensorType[] = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"];
    expect(types.map(kept)).toEqual(["f32", "f16", "f16", "q8", "q4", "q4m", "q8", "q8", "q4m", "q8", "q8"]);
  });

  test("a matrix of several tensors has the widest format", () => {
    const qkv = (q: TensorType, k: TensorType, v: TensorType) =>
      formats({
        types: {
          [`${layer}.self_attn.q_proj.weight`]: q,
          [`${layer}.self_attn.k_proj.weight`]: k,
          [`${layer}.self_attn.v_proj.weight`]: v,
        },
      }).qkv;
    expect(qkv("Q4_0", "Q4_0", "Q4_0")).toBe("q4");
    expect(qkv("Q4_0", "Q4_1", "Q4_0")).toBe("q4m");
    expect(qkv("Q4_K", "Q4_K", "Q6_K")).toBe("q8");
    expect(qkv("Q8_0", "F16", "Q4_0")).toBe("f16");
    expect(qkv("F32", "BF16", "Q8_0")).toBe("f32");
  });

  test("quantising keeps quantised tensors, and stores the tables of 4-bit models with 8 bits", () => {
    expect(formats({}, { quantise: "q8" })).toEqual({
      embedding: "q8",
      head: "q8",
      qkv: "q8",
      attentionOutput: "q8",
      gateUp: "q8",
      down: "q8",
    });
    const types = { [`${layer}.mlp.down_proj.weight`]: "Q4_1", [`${layer}.self_attn.o_proj.weight`]: "F32" } as const;
    expect(formats({ types }, { quantise: "q4" })).toEqual({
      embedding: "q8",
      head: "q8",
      qkv: "q4",
      attentionOutput: "q4",
      gateUp: "q4",
      down: "q4m",
    });
    expect(formats({ types }, { quantise: "f16" })).toMatchObject({ attentionOutput: "f16", down: "q4m" });
  });
});

describe("tensors that no recipe uses", () => {
  const check = (shapes: Readonly<Record<string, readonly number[]>>, changed = config) =>
    checkNothingLeftOver(changed, directory({ shapes }));

  test.each([`${layer}.self_attn.o_proj.bias`, `${layer}.self_attn.q_norm.weight`, "model.layers.1.input_layernorm.weight"])(
    "%s is refused",
    (name) => {
      const error = errorOf(() => check({ [name]: [64] }));
      expect([error.code, error.message]).toEqual(["unsupported", expect.stringContaining(`"${name}" in model.safetensors`)]);
    },
  );

  test("are accepted if they change nothing: a stored copy of a tied head, rotary frequencies", () => {
    expect(() => check({ [`${layer}.self_attn.rotary_emb.inv_freq`]: [8] }, { ...config, tiedEmbedding: true })).not.toThrow();
  });
});
