// Reads tensors of golden files as numbers. The engine itself never turns integers or whole checkpoints into numbers on the CPU.
import type { StoredTensor, TensorDirectory } from "../../src/formats/tensor-directory";
import { halfValue } from "./half";

/** The values of an F32, F16 or BF16 tensor, row-major. */
export async function readTensorValues(directory: TensorDirectory, name: string): Promise<Float32Array<ArrayBuffer>> {
  const tensor = findTensor(directory, name);
  const view = await viewOf(tensor);
  switch (tensor.type) {
    case "F32":
      return Float32Array.from({ length: view.byteLength / 4 }, (_, index) => view.getFloat32(4 * index, true));
    case "F16":
      return Float32Array.from({ length: view.byteLength / 2 }, (_, index) => halfValue(view.getUint16(2 * index, true)));
    case "BF16":
      return new Float32Array(
        Uint32Array.from({ length: view.byteLength / 2 }, (_, index) => view.getUint16(2 * index, true) << 16).buffer,
      );
    default:
      throw new Error(`"${name}" in ${directory.name} has type ${tensor.type}, which is not read as values`);
  }
}

/** The integers of an I64 or I32 tensor: token ids. */
export async function readTensorIds(directory: TensorDirectory, name: string): Promise<number[]> {
  const tensor = findTensor(directory, name);
  const view = await viewOf(tensor);
  switch (tensor.type) {
    case "I64":
      return Array.from({ length: view.byteLength / 8 }, (_, index) => Number(view.getBigInt64(8 * index, true)));
    case "I32":
      return Array.from({ length: view.byteLength / 4 }, (_, index) => view.getInt32(4 * index, true));
    default:
      throw new Error(`"${name}" in ${directory.name} has type ${tensor.type}, which is not read as ids`);
  }
}

/** The tensor, be it of a type that the engine computes with or not. */
export function findTensor(directory: TensorDirectory, name: string): StoredTensor {
  const tensor = directory.tensors.get(name) ?? directory.unsupported.get(name);
  if (tensor === undefined) throw new Error(`no "${name}" in ${directory.name}`);
  return tensor;
}

async function viewOf({ source, range }: StoredTensor): Promise<DataView> {
  const bytes = await source.read(range);
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
