// Writes the logits files of `eval --out`, and reads them for comparison.
import { writeFileSync } from "node:fs";
import { LlmError } from "../errors";
import { type WritableTensor, writeSafetensors } from "../formats/safetensors-writer";
import { formatShape, requireTensor, type StoredTensor, type TensorDirectory } from "../formats/tensor-directory";

const ID_BYTES: ReadonlyMap<string, number> = new Map([
  ["I32", 4],
  ["I64", 8],
]);

export interface LogitsContents {
  readonly ids: readonly number[];
  /** [ids, vocabSize] */
  readonly logits: Float32Array<ArrayBuffer>;
  /** [layers + 1] of [ids, hiddenSize]; may be empty. */
  readonly hidden: readonly Float32Array[];
}

export function writeLogitsFile(path: string, { ids, logits, hidden }: LogitsContents): void {
  const matrix = (name: string, values: Float32Array): WritableTensor => {
    return { name, type: "F32", shape: [ids.length, values.length / ids.length], values };
  };
  const tensors = [
    matrix("logits", logits),
    ...hidden.map((values, layer) => matrix(`hidden.${layer}`, values)),
    { name: "input_ids", type: "I32", shape: [ids.length], values: Int32Array.from(ids) } as const,
  ];
  writeFileSync(path, writeSafetensors(tensors));
}

/**
 * The logits of exactly `ids`, [ids, vocabSize].
 *
 * @throws LlmError "bad-weights" if the file has other ids or another vocabulary, "unsupported" if it does not hold f32.
 */
export async function readLogits(file: TensorDirectory, ids: readonly number[], vocabSize: number): Promise<Float32Array> {
  const tensor = requireTensor(file, "logits", [ids.length, vocabSize]);
  if (tensor.type !== "F32") throw new LlmError("unsupported", `"logits" in ${file.name}: type ${tensor.type}, expected F32`);
  const stored = file.unsupported.get("input_ids");
  if (stored) await checkIds(stored, ids);
  const bytes = await tensor.source.read(tensor.range);
  return new Float32Array(bytes.buffer, bytes.byteOffset, ids.length * vocabSize);
}

async function checkIds({ source, range, type, shape }: StoredTensor, ids: readonly number[]): Promise<void> {
  const where = `"input_ids" in ${source.name}`;
  const elementBytes = ID_BYTES.get(type);
  if (elementBytes === undefined)
    throw new LlmError("unsupported", `${where}: type ${type}, expected ${[...ID_BYTES.keys()].join(" or ")}`);
  const bytes = await source.read(range);
  if (bytes.length !== ids.length * elementBytes) {
    throw new LlmError("bad-weights", `${where}: shape ${formatShape(shape)}, expected ${formatShape([ids.length])}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // Ids are below 2³², so the lower half of 64 bits suffices.
  const stored = ids.map((_, position) => view.getUint32(position * elementBytes, true));
  const position = ids.findIndex((id, index) => stored[index] !== id);
  if (position < 0) return;
  const words = `id ${stored[position]} at position ${position}, expected ${ids[position]}`;
  throw new LlmError("bad-weights", `${where}: ${words}. Compare logits of the same ids.`);
}
