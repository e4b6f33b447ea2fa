// The tensor types of GGUF files by their number, each with its block: those that we compute with, and the others that a file may hold.
import { TENSOR_BLOCKS, type TensorBlock, type TensorType } from "./tensor-directory";

export interface GgufTensorType {
  readonly name: string;
  readonly block: TensorBlock;
}

/** Numbers that are not here were never given or have been taken back (4, 5, 31 to 33, 36 to 38). */
export const GGUF_TENSOR_TYPES: ReadonlyMap<number, GgufTensorType> = new Map([
  [0, ours("F32")],
  [1, ours("F16")],
  [2, ours("Q4_0")],
  [3, ours("Q4_1")],
  [6, ours("Q5_0")],
  [7, ours("Q5_1")],
  [8, ours("Q8_0")],
  [9, other("Q8_1", 32, 36)],
  [10, other("Q2_K", 256, 84)],
  [11, other("Q3_K", 256, 110)],
  [12, ours("Q4_K")],
  [13, ours("Q5_K")],
  [14, ours("Q6_K")],
  [15, other("Q8_K", 256, 292)],
  [16, other("IQ2_XXS", 256, 66)],
  [17, other("IQ2_XS", 256, 74)],
  [18, other("IQ3_XXS", 256, 98)],
  [19, other("IQ1_S", 256, 50)],
  [20, other("IQ4_NL", 32, 18)],
  [21, other("IQ3_S", 256, 110)],
  [22, other("IQ2_S", 256, 82)],
  [23, other("IQ4_XS", 256, 136)],
  [24, other("I8", 1, 1)],
  [25, other("I16", 1, 2)],
  [26, other("I32", 1, 4)],
  [27, other("I64", 1, 8)],
  [28, other("F64", 1, 8)],
  [29, other("IQ1_M", 256, 56)],
  [30, ours("BF16")],
  [34, other("TQ1_0", 256, 54)],
  [35, other("TQ2_0", 256, 66)],
  [39, other("MXFP4", 32, 17)],
  [40, other("NVFP4", 64, 36)],
]);

function ours(name: TensorType): GgufTensorType {
  return { name, block: TENSOR_BLOCKS[name] };
}

function other(name: string, elements: number, bytes: number): GgufTensorType {
  return { name, block: { elements, bytes } };
}
