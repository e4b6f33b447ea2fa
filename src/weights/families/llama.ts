// Llama, and models with the same layer (SmolLM2, TinyLlama). Mistral and Qwen2 build on this file.
import type { TensorDirectory } from "../../formats/tensor-directory";
import type { ConfigFields } from "../config-fields";
import type { ModelConfig } from "../model-config";
import { ropeFromJson } from "../rotary-config";
import type { CheckpointFormat, Family, GgufTraits, GlobalNames, LayerNames } from "./family";

export const llama: Family = {
  name: "llama",
  configFromJson: (fields) =>
    llamaConfigFromJson(fields, { family: "llama", qkvBias: false, slidingWindow: null, defaultMaxPositions: 2048 }),
  traitsFromGguf: llamaTraitsFromGguf,
  layerNames: (format, layer) => llamaLayerNames(format, layer, format === "gguf" ? "adjacent" : "halves"),
  globalNames: llamaGlobalNames,
};

const LLAMA_LAYER = { norm: "rms", activation: "silu-gated", parallelBlock: false, separateMlpNorm: false } as const;

/** Differences between Llama and its relatives. */
interface LlamaTraits {
  readonly family: string;
  readonly qkvBias: boolean;
  readonly slidingWindow: number | null;
  /** The value if config.json lacks the key. Llama: as many as heads. */
  readonly defaultKvHeadCount?: number;
  readonly defaultMaxPositions: number;
}

export function llamaConfigFromJson(fields: ConfigFields, traits: LlamaTraits): ModelConfig {
  for (const key of ["attention_bias", "mlp_bias"]) {
    if (fields.flag(key, false)) throw fields.unsupported(key, "these biases are not supported");
  }
  if (fields.text("hidden_act", "silu") !== "silu") throw fields.unsupported("hidden_act", "only silu is supported");
  const hiddenSize = fields.count("hidden_size");
  const headCount = fields.count("num_attention_heads");
  const headDim = fields.count("head_dim", hiddenSize / headCount);
  const kvHeadsMissing = fields.value("num_key_value_heads") === undefined;
  return {
    ...LLAMA_LAYER,
    family: traits.family,
    layerCount: fields.count("num_hidden_layers"),
    hiddenSize,
    headCount,
    kvHeadCount: fields.count("num_key_value_heads", (kvHeadsMissing ? traits.defaultKvHeadCount : undefined) ?? headCount),
    headDim,
    intermediateSize: fields.count("intermediate_size"),
    vocabSize: fields.count("vocab_size"),
    maxPositions: fields.count("max_position_embeddings", traits.defaultMaxPositions),
    rope: ropeFromJson(fields, headDim),
    normEpsilon: fields.positive("rms_norm_eps", 1e-6),
    qkvBias: traits.qkvBias,
    tiedEmbedding: fields.flag("tie_word_embeddings", false),
    slidingWindow: traits.slidingWindow,
  };
}

export function llamaTraitsFromGguf(fields: ConfigFields, directory: TensorDirectory): GgufTraits {
  return {
    ...LLAMA_LAYER,
    normEpsilon: fields.positive("attention.layer_norm_rms_epsilon"),
    qkvBias: directory.tensors.has("blk.0.attn_q.bias"),
    // 0 means no window.
    slidingWindow: fields.value("attention.sliding_window") === 0 ? null : fields.optionalCount("attention.sliding_window"),
  };
}

export function llamaLayerNames(format: CheckpointFormat, layer: number, rotaryPairs: "halves" | "adjacent"): LayerNames {
  if (format === "safetensors") {
    const stem = `model.layers.${layer}`;
    return {
      attentionNorm: `${stem}.input_layernorm`,
      qkv: { query: `${stem}.self_attn.q_proj`, key: `${stem}.self_attn.k_proj`, value: `${stem}.self_attn.v_proj`, rotaryPairs },
      attentionOutput: `${stem}.self_attn.o_proj`,
      mlpNorm: `${stem}.post_attention_layernorm`,
      gate: `${stem}.mlp.gate_proj`,
      up: `${stem}.mlp.up_proj`,
      down: `${stem}.mlp.down_proj`,
    };
  }
  const stem = `blk.${layer}`;
  return {
    attentionNorm: `${stem}.attn_norm`,
    qkv: { query: `${stem}.attn_q`, key: `${stem}.attn_k`, value: `${stem}.attn_v`, rotaryPairs },
    attentionOutput: `${stem}.attn_output`,
    mlpNorm: `${stem}.ffn_norm`,
    gate: `${stem}.ffn_gate`,
    up: `${stem}.ffn_up`,
    down: `${stem}.ffn_down`,
  };
}

export function llamaGlobalNames(format: CheckpointFormat): GlobalNames {
  return format === "safetensors"
    ? { embedding: "model.embed_tokens", finalNorm: "model.norm", head: "lm_head" }
    : { embedding: "token_embd", finalNorm: "output_norm", head: "output" };
}
