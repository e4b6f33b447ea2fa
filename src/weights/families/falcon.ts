// Falcon: attention and MLP read the same residual, LayerNorms have a bias, and q, k and v are one projection.
import type { ConfigFields } from "../config-fields";
import type { Activation, ModelConfig } from "../model-config";
import { ropeFromJson } from "../rotary-config";
import type { Family, LayerNames } from "./family";

export const falcon: Family = {
  name: "falcon",
  configFromJson,
  traitsFromGguf: (fields, directory) => ({
    ...FALCON_LAYER,
    normEpsilon: fields.positive("attention.layer_norm_epsilon"),
    activation: "gelu",
    separateMlpNorm: directory.tensors.has("blk.0.attn_norm_2.weight"),
  }),
  layerNames: (format, layer, { separateMlpNorm }) =>
    format === "safetensors" ? safetensorsNames(layer, separateMlpNorm) : ggufNames(layer, separateMlpNorm),
  globalNames: (format) =>
    format === "safetensors"
      ? { embedding: "transformer.word_embeddings", finalNorm: "transformer.ln_f", head: "lm_head" }
      : { embedding: "token_embd", finalNorm: "output_norm", head: "output" },
};

const FALCON_LAYER = { norm: "layer", parallelBlock: true, qkvBias: false, slidingWindow: null } as const;

const ACTIVATIONS: ReadonlyMap<string, Activation> = new Map([
  ["gelu", "gelu"],
  ["gelu_new", "gelu-tanh"],
  ["gelu_pytorch_tanh", "gelu-tanh"],
]);

function configFromJson(fields: ConfigFields): ModelConfig {
  if (fields.flag("alibi", false)) throw fields.unsupported("alibi", "only rotary embedding is supported");
  if (fields.flag("bias", false)) throw fields.unsupported("bias", "biases of the projections are not supported");
  if (!fields.flag("parallel_attn", true)) throw fields.unsupported("parallel_attn", "only parallel blocks are supported");
  const activation = ACTIVATIONS.get(fields.text("activation", "gelu"));
  if (activation === undefined) throw fields.unsupported("activation", `supported: ${[...ACTIVATIONS.keys()].join(", ")}`);
  const newArchitecture = fields.flag("new_decoder_architecture", false);
  const hiddenSize = fields.count("hidden_size");
  const headCount = fields.count("num_attention_heads");
  const headDim = fields.count("head_dim", hiddenSize / headCount);
  return {
    ...FALCON_LAYER,
    family: "falcon",
    layerCount: fields.count("num_hidden_layers"),
    hiddenSize,
    headCount,
    kvHeadCount: newArchitecture ? fields.count("num_kv_heads", headCount) : oldKvHeadCount(fields, headCount),
    headDim,
    intermediateSize: fields.count("ffn_hidden_size", 4 * hiddenSize),
    vocabSize: fields.count("vocab_size"),
    maxPositions: fields.count("max_position_embeddings", 2048),
    rope: ropeFromJson(fields, headDim),
    normEpsilon: fields.positive("layer_norm_epsilon", 1e-5),
    activation,
    separateMlpNorm: hasTwoNorms(fields, newArchitecture),
    tiedEmbedding: fields.flag("tie_word_embeddings", true),
  };
}

/** The old architecture has one K/V head, or one for each query head. It ignores `num_kv_heads`. */
function oldKvHeadCount(fields: ConfigFields, headCount: number): number {
  return fields.flag("multi_query", true) ? 1 : headCount;
}

function hasTwoNorms(fields: ConfigFields, newArchitecture: boolean): boolean {
  const normCount = fields.count("num_ln_in_parallel_attn", newArchitecture ? 2 : 1);
  if (normCount > 2 || (normCount === 2 && !newArchitecture)) {
    throw fields.unsupported("num_ln_in_parallel_attn", "supported: 1 and, in the new decoder architecture, 2");
  }
  return normCount === 2;
}

function safetensorsNames(layer: number, twoNorms: boolean): LayerNames {
  const stem = `transformer.h.${layer}`;
  return {
    attentionNorm: twoNorms ? `${stem}.ln_attn` : `${stem}.input_layernorm`,
    qkv: { fused: `${stem}.self_attention.query_key_value`, rows: "by-group" },
    attentionOutput: `${stem}.self_attention.dense`,
    ...(twoNorms && { mlpNorm: `${stem}.ln_mlp` }),
    up: `${stem}.mlp.dense_h_to_4h`,
    down: `${stem}.mlp.dense_4h_to_h`,
  };
}

/** llama.cpp's name for the attention norm depends on whether the MLP has its own. */
function ggufNames(layer: number, twoNorms: boolean): LayerNames {
  const stem = `blk.${layer}`;
  return {
    attentionNorm: twoNorms ? `${stem}.attn_norm_2` : `${stem}.attn_norm`,
    qkv: { fused: `${stem}.attn_qkv`, rows: "in-order" },
    attentionOutput: `${stem}.attn_output`,
    ...(twoNorms && { mlpNorm: `${stem}.attn_norm` }),
    up: `${stem}.ffn_up`,
    down: `${stem}.ffn_down`,
  };
}
