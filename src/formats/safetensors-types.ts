// The element types that safetensors files name, each with its size. Those of our own `TensorType` have the same name there.
import type { TensorBlock } from "./tensor-directory";

/** F4 and F6, which pack elements into parts of bytes, are left out: no family that we read uses them. */
export type SafetensorsType =
  | "F64"
  | "I64"
  | "U64"
  | "F32"
  | "I32"
  | "U32"
  | "F16"
  | "BF16"
  | "I16"
  | "U16"
  | "F8_E4M3"
  | "F8_E5M2"
  | "F8_E8M0"
  | "I8"
  | "U8"
  | "BOOL";

export const SAFETENSORS_BLOCKS: Readonly<Record<SafetensorsType, TensorBlock>> = {
  F64: { elements: 1, bytes: 8 },
  I64: { elements: 1, bytes: 8 },
  U64: { elements: 1, bytes: 8 },
  F32: { elements: 1, bytes: 4 },
  I32: { elements: 1, bytes: 4 },
  U32: { elements: 1, bytes: 4 },
  F16: { elements: 1, bytes: 2 },
  BF16: { elements: 1, bytes: 2 },
  I16: { elements: 1, bytes: 2 },
  U16: { elements: 1, bytes: 2 },
  F8_E4M3: { elements: 1, bytes: 1 },
  F8_E5M2: { elements: 1, bytes: 1 },
  F8_E8M0: { elements: 1, bytes: 1 },
  I8: { elements: 1, bytes: 1 },
  U8: { elements: 1, bytes: 1 },
  BOOL: { elements: 1, bytes: 1 },
};

export function isSafetensorsType(name: string): name is SafetensorsType {
  return Object.hasOwn(SAFETENSORS_BLOCKS, name);
}
