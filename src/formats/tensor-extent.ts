// Checks what a file's header says about a tensor's size before anybody relies on it.
import { LlmError } from "../errors";
import { formatShape, type TensorBlock } from "./tensor-directory";

/** 61 layers of 256 experts with 3 matrices, each with its scale, are 93,696 tensors: the most in a model that we know of. */
export const MAX_TENSOR_COUNT = 200_000;

interface StatedTensor {
  readonly type: string;
  readonly block: TensorBlock;
  /** Outermost first. */
  readonly shape: readonly number[];
  /** The tensor and its file, for messages. */
  readonly where: string;
}

/**
 * The bytes that a tensor of this type and shape takes. A shape of no dimensions is one element; a dimension of 0 makes an empty tensor.
 *
 * @throws LlmError "bad-file" when a dimension is no whole number, the product leaves the safe integers, or a row breaks a block.
 */
export function tensorByteLength({ type, block, shape, where }: StatedTensor): number {
  let elements = 1;
  for (const size of shape) {
    elements *= size;
    if (!isCount(size) || !isCount(elements)) {
      throw new LlmError("bad-file", `${where}: shape ${formatShape(shape)}, expected whole sizes with a product below 2^53`);
    }
  }
  const rowElements = shape.at(-1) ?? 1;
  if (rowElements % block.elements !== 0) {
    throw new LlmError(
      "bad-file",
      `${where}: rows of ${rowElements} elements, expected a multiple of ${block.elements} for type ${type} (shape ${formatShape(shape)})`,
    );
  }
  const bytes = (elements / block.elements) * block.bytes;
  if (!isCount(bytes)) throw new LlmError("bad-file", `${where}: shape ${formatShape(shape)} in ${type} takes 2^53 bytes or more`);
  return bytes;
}

/** Whether `value` is an integer from 0 to 2^53 - 1, which JavaScript adds and compares exactly. */
export function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}
