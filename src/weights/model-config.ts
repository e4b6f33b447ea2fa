// A model's configuration in the field's terms, made from config.json or GGUF metadata.

export type NormKind = "rms" | "layer";
export type Activation = "silu-gated" | "gelu" | "gelu-tanh";

export interface RopeConfig {
  readonly theta: number;
  /** Dimensions of a head that are rotated; the rest pass. headDim for full rotary. */
  readonly dimensions: number;
  /** A divisor for the frequency of each of dimensions / 2 pairs: llama3 scaling, or a GGUF's rope_freqs. Absent: all 1. */
  readonly frequencyDivisors?: readonly number[];
}

export interface ModelConfig {
  /** The family, named as in config.json's model_type: "llama", "mistral", "falcon", "qwen2". */
  readonly family: string;
  readonly layerCount: number;
  readonly hiddenSize: number;
  readonly headCount: number;
  readonly kvHeadCount: number;
  readonly headDim: number;
  readonly intermediateSize: number;
  readonly vocabSize: number;
  /** Positions that the model was trained for. */
  readonly maxPositions: number;
  readonly rope: RopeConfig;
  readonly norm: NormKind;
  readonly normEpsilon: number;
  readonly activation: Activation;
  /** Attention and MLP read the same residual (Falcon); otherwise MLP follows attention. */
  readonly parallelBlock: boolean;
  /** The MLP of a parallel block has its own norm (Falcon's new architecture). */
  readonly separateMlpNorm: boolean;
  readonly qkvBias: boolean;
  readonly tiedEmbedding: boolean;
  /** Number of positions that a query sees, its own included; null: all before it. */
  readonly slidingWindow: number | null;
}
