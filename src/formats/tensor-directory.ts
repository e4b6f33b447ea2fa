// What a checkpoint holds, whatever its file format: tensors by name, each with its type, shape and place.
import type { ByteRange, ByteSource } from "../bytes/byte-source";

/** Element types as stored in files. Names are GGUF's; safetensors' F32, F16 and BF16 are the same. */
export type TensorType = "F32" | "F16" | "BF16" | "Q8_0" | "Q4_0" | "Q4_1" | "Q5_0" | "Q5_1" | "Q4_K" | "Q5_K" | "Q6_K";

/** Elements in a block and bytes that a block takes. Rows are whole numbers of blocks. */
export interface TensorBlock {
  readonly elements: number;
  readonly bytes: number;
}

export const TENSOR_BLOCKS: Readonly<Record<TensorType, TensorBlock>> = {
  F32: { elements: 1, bytes: 4 },
  F16: { elements: 1, bytes: 2 },
  BF16: { elements: 1, bytes: 2 },
  Q8_0: { elements: 32, bytes: 34 },
  Q4_0: { elements: 32, bytes: 18 },
  Q4_1: { elements: 32, bytes: 20 },
  Q5_0: { elements: 32, bytes: 22 },
  Q5_1: { elements: 32, bytes: 24 },
  Q4_K: { elements: 256, bytes: 144 },
  Q5_K: { elements: 256, bytes: 176 },
  Q6_K: { elements: 256, bytes: 210 },
};

export interface TensorInfo {
  readonly name: string;
  readonly type: TensorType;
  /** Row-major, outermost first as in PyTorch: a linear layer is [outputs, inputs]. (GGUF lists them the other way; readers turn them.) */
  readonly shape: readonly number[];
  readonly source: ByteSource;
  readonly range: ByteRange;
}

export interface TensorDirectory {
  readonly format: "safetensors" | "gguf";
  /** Every tensor, in file order. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** GGUF's key-value metadata, or safetensors' `__metadata__`. */
  readonly metadata: ReadonlyMap<string, MetadataValue>;
}

export type MetadataValue = string | number | bigint | boolean | readonly MetadataValue[] | Float64Array;
