// What defines a family of models: how its configuration is read, and what its checkpoints call our weights.
import type { TensorDirectory } from "../../formats/tensor-directory";
import type { ConfigFields } from "../config-fields";
import type { ModelConfig } from "../model-config";

export type CheckpointFormat = TensorDirectory["format"];

/** Tensors and row order of q, k and v. Names are stems: the tensors are `<stem>.weight` and, with a bias, `<stem>.bias`. */
export type QkvNames =
  /** Three projections. The members of a rotary pair are `adjacent` (llama.cpp's Llama) or half a head apart (`halves`). */
  | { readonly query: string; readonly key: string; readonly value: string; readonly rotaryPairs: "halves" | "adjacent" }
  /** One projection: all q, all k, all v (`in-order`), or each K/V head after the query heads that share it (`by-group`). */
  | { readonly fused: string; readonly rows: "in-order" | "by-group" };

/** Stems of a layer's tensors. LayerNorms have a bias, RMSNorms have none; the config says which it is. */
export interface LayerNames {
  readonly attentionNorm: string;
  readonly qkv: QkvNames;
  readonly attentionOutput: string;
  /** Absent if the MLP reads the same input as attention (a parallel block with one norm). */
  readonly mlpNorm?: string;
  /** Absent if the MLP is not gated. */
  readonly gate?: string;
  readonly up: string;
  readonly down: string;
}

/** Stems of the tensors outside the layers. */
export interface GlobalNames {
  readonly embedding: string;
  readonly finalNorm: string;
  readonly head: string;
}

/** Properties that GGUF metadata leaves to the architecture's name. All others are read alike for every family. */
export type GgufTraits = Pick<
  ModelConfig,
  "norm" | "normEpsilon" | "activation" | "parallelBlock" | "separateMlpNorm" | "qkvBias" | "slidingWindow"
>;

export interface Family {
  /** `model_type` in config.json and `general.architecture` in GGUF. */
  readonly name: string;
  readonly configFromJson: (fields: ConfigFields) => ModelConfig;
  /** Keys are given without the architecture prefix. Absent if llama.cpp has no architecture of this name. */
  readonly traitsFromGguf?: (fields: ConfigFields, directory: TensorDirectory) => GgufTraits;
  readonly layerNames: (format: CheckpointFormat, layer: number, config: ModelConfig) => LayerNames;
  readonly globalNames: (format: CheckpointFormat) => GlobalNames;
}
