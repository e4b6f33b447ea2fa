// What a model is, in the field's words, read-only. Made from config.json or GGUF metadata.

export type NormKind = "rms" | "layer";
export type Activation = "silu-gated" | "gelu" | "gelu-tanh";

export interface RopeConfig {
  readonly theta: number;
  /** Dimensions of a head that are rotated; the rest pass. headDim for full rotary. */
  readonly dimensions: number;
  /** Divides the frequency of each pair (dimensions / 2 of them): llama3 scaling, or a GGUF's rope_freqs. Absent: all 1. */
  readonly frequencyDivisors?: readonly number[];
}

export interface ModelConfig {
  /** Family's name as in config.json's model_type: "llama", "mistral", "falcon", "qwen2". */
  readonly family: string;
  readonly layerCount: number;
  readonly hiddenSize: number;
  readonly headCount: number;
  readonly kvHeadCount: number;
  readonly headDim: number;
  readonly intermediateSize: number;
  readonly vocabSize: number;
  /** Positions the model was made for. */
  readonly maxPositions: number;
  readonly rope: RopeConfig;
  readonly norm: NormKind;
  readonly normEpsilon: number;
  readonly activation: Activation;
  /** Attention and MLP read the same residual (Falcon); otherwise MLP follows attention. */
  readonly parallelBlock: boolean;
  /** Parallel block with a norm of its own before the MLP (Falcon's new architecture). */
  readonly separateMlpNorm: boolean;
  readonly qkvBias: boolean;
  readonly tiedEmbedding: boolean;
  /** Positions that a query sees, its own included; null: all before it. */
  readonly slidingWindow: number | null;
}
