// What a checkpoint holds, whatever its file format: tensors by name, each with its type, shape and place.
import type { ByteRange, ByteSource } from "../bytes/byte-source";
import { LlmError } from "../errors";

/** Element types that we compute with, as stored in files. Names are GGUF's; safetensors' F32, F16 and BF16 are the same. */
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

/** A tensor of any type that its file format knows. Its size and place have been checked against its file. */
export interface StoredTensor {
  readonly name: string;
  readonly type: string;
  /** Row-major, outermost first as in PyTorch: a linear layer is [outputs, inputs]. (GGUF lists them the other way; readers turn them.) */
  readonly shape: readonly number[];
  readonly source: ByteSource;
  readonly range: ByteRange;
}

/** A stored tensor of a type that we compute with. */
export interface TensorInfo extends StoredTensor {
  readonly type: TensorType;
}

export interface TensorDirectory {
  readonly format: "safetensors" | "gguf";
  /** What was read, for messages: the file's name, or the index's when there are shards. */
  readonly name: string;
  /** Every tensor of a type that we compute with, in file order. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** The tensors of other types (Q2_K, I64 …), in file order: a file may hold them as long as nobody asks for them. */
  readonly unsupported: ReadonlyMap<string, StoredTensor>;
  /** GGUF's key-value metadata, or safetensors' `__metadata__`. */
  readonly metadata: ReadonlyMap<string, MetadataValue>;
}

/** Numbers of any width are `number`, and `bigint` only where a 64-bit one is past 2^53. Arrays of numbers are `Float64Array`. */
/** A string that is not UTF-8: its bytes. Whoever needs the string refuses it; most files have it where nobody looks, such as a path. */
export type MetadataText = string | Uint8Array;

export type MetadataValue = MetadataText | number | bigint | boolean | readonly MetadataText[] | readonly boolean[] | Float64Array;

/** A directory of `stored`, which is in file order and names no tensor twice. */
export function directoryOf(stored: Iterable<StoredTensor>, rest: Pick<TensorDirectory, "format" | "name" | "metadata">): TensorDirectory {
  const tensors = new Map<string, TensorInfo>();
  const unsupported = new Map<string, StoredTensor>();
  for (const tensor of stored) {
    if (isSupported(tensor)) tensors.set(tensor.name, tensor);
    else unsupported.set(tensor.name, tensor);
  }
  return { ...rest, tensors, unsupported };
}

/**
 * The tensor called `name`, of `expectedShape` where one is given.
 *
 * @throws LlmError "bad-weights" when it is missing or of another shape; "unsupported" when we cannot compute with its type.
 */
export function requireTensor(directory: TensorDirectory, name: string, expectedShape?: readonly number[]): TensorInfo {
  const tensor = directory.tensors.get(name);
  if (tensor === undefined) {
    const unsupported = directory.unsupported.get(name);
    if (unsupported === undefined) throw new LlmError("bad-weights", `"${name}" in ${directory.name}: missing`);
    const types = Object.keys(TENSOR_BLOCKS).join(", ");
    throw new LlmError(
      "unsupported",
      `"${name}" in ${unsupported.source.name}: type ${unsupported.type}, expected one of ${types}. Use a file of the model in one of these types.`,
    );
  }
  if (expectedShape !== undefined && !sameShape(tensor.shape, expectedShape)) {
    throw new LlmError(
      "bad-weights",
      `"${name}" in ${tensor.source.name}: shape ${formatShape(tensor.shape)}, expected ${formatShape(expectedShape)}`,
    );
  }
  return tensor;
}

/** The tensor called `name`, of whatever type. @throws LlmError "bad-file" when it is missing. */
export function requireStored(directory: TensorDirectory, name: string): StoredTensor {
  const tensor = directory.tensors.get(name) ?? directory.unsupported.get(name);
  if (tensor === undefined) throw new LlmError("bad-file", `"${name}" in ${directory.name}: missing`);
  return tensor;
}

/** "[512, 2048]", for messages. */
export function formatShape(shape: readonly number[]): string {
  return `[${shape.join(", ")}]`;
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}

function isSupported(tensor: StoredTensor): tensor is TensorInfo {
  return Object.hasOwn(TENSOR_BLOCKS, tensor.type);
}
