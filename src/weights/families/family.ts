// What a family of models has to say: how its configuration reads, and what its checkpoints call our weights.
import type { TensorDirectory } from "../../formats/tensor-directory";
import type { ConfigFields } from "../config-fields";
import type { ModelConfig } from "../model-config";

export type CheckpointFormat = TensorDirectory["format"];

/** Where the rows of q, k and v are. Names are stems: the tensors are `<stem>.weight` and, with a bias, `<stem>.bias`. */
export type QkvNames =
  /** Three projections; `adjacent` where the members of a rotary pair lie side by side (llama.cpp's Llama), `halves` where half a head apart. */
  | { readonly query: string; readonly key: string; readonly value: string; readonly rotaryPairs: "halves" | "adjacent" }
  /** One projection: all q, all k, all v (`in-order`), or each K/V head after the query heads that share it (`by-group`). */
  | { readonly fused: string; readonly rows: "in-order" | "by-group" };

/** Stems of a layer's tensors. LayerNorms have a bias, RMSNorms none; which it is stands in the config. */
export interface LayerNames {
  readonly attentionNorm: string;
  readonly qkv: QkvNames;
  readonly attentionOutput: string;
  /** Absent where the MLP reads what attention reads (a parallel block with one norm). */
  readonly mlpNorm?: string;
  /** Absent where the MLP is not gated. */
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

/** What GGUF metadata leaves to the architecture's name; all else reads alike for every family. */
export type GgufTraits = Pick<
  ModelConfig,
  "norm" | "normEpsilon" | "activation" | "parallelBlock" | "separateMlpNorm" | "qkvBias" | "slidingWindow"
>;

export interface Family {
  /** `model_type` in config.json and `general.architecture` in GGUF. */
  readonly name: string;
  readonly configFromJson: (fields: ConfigFields) => ModelConfig;
  /** Keys are asked for without the architecture in front. Absent where llama.cpp has no architecture of this name. */
  readonly traitsFromGguf?: (fields: ConfigFields, directory: TensorDirectory) => GgufTraits;
  readonly layerNames: (format: CheckpointFormat, layer: number, config: ModelConfig) => LayerNames;
  readonly globalNames: (format: CheckpointFormat) => GlobalNames;
}
