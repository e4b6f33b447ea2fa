// Packs the bytes of a checkpoint's tensors into a matrix in one of the canonical layouts. Pure; runs in a worker or in the calling thread.
import { assert } from "../assert";
import { LlmError } from "../errors";
import { TENSOR_BLOCKS, type TensorType } from "../formats/tensor-directory";
import { type PackedMatrix, paddedColumns, type WeightFormat } from "../weight-format";
import { DECODERS } from "./dequantise";
import { newPackedRows, type PackedRows } from "./packed-rows";
import { ENCODERS, ValueProblem } from "./quantise";
import { repackerOf } from "./repack";
import type { RowRun } from "./row-runs";

/** Stored rows of a tensor, and the rows of the matrix that they become. */
export interface PackPart {
  /** The tensor and its file, for messages. */
  readonly where: string;
  readonly type: TensorType;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly runs: readonly RowRun[];
}

export interface PackTask {
  readonly format: WeightFormat;
  readonly rows: number;
  readonly columns: number;
  readonly parts: readonly PackPart[];
}

/**
 * @throws LlmError "bad-weights" when a weight or a scale is not finite, or is too large for the format
 */
export function packMatrix({ format, rows, columns, parts }: PackTask): PackedMatrix {
  const packed = newPackedRows({ format, rows, columns });
  for (const part of parts) packPart(part, packed);
  const written = parts.flatMap((part) => part.runs).reduce((sum, run) => sum + run.count, 0);
  assert(written === rows, `${written} rows were packed into a matrix of ${rows}`);
  return { format, rows, columns, codes: packed.codes, scales: packed.scales };
}

/** The elements of `parts`, in the order of their runs, as f32. @throws LlmError "bad-weights" when a value is not finite */
export function packVector(length: number, parts: readonly PackPart[]): Float32Array<ArrayBuffer> {
  const vector = new Float32Array(length);
  for (const { where, type, bytes, runs } of parts) {
    const stored = new Float32Array(bytes.byteLength / rowBytesOf(type, 1));
    DECODERS[type](viewOf(bytes), 0, stored, stored.length);
    for (const { from, to, count, fromStep, toStep } of runs) {
      for (let i = 0; i < count; i++) {
        const value = stored[from + i * fromStep];
        assert(value !== undefined, `${where}: element ${from + i * fromStep} of ${stored.length}`);
        if (!Number.isFinite(value))
          throw new LlmError("bad-weights", `${where}, element ${from + i * fromStep}: ${value} is not a finite number`);
        vector[to + i * toStep] = value;
      }
    }
  }
  return vector;
}

function packPart({ where, type, bytes, runs }: PackPart, packed: PackedRows): void {
  const rowBytes = rowBytesOf(type, packed.columns);
  const stored = viewOf(bytes);
  const packRow = repackerOf(type, packed.format) ?? viaFloats(type, packed);
  for (const { from, to, count, fromStep, toStep } of runs) {
    for (let i = 0; i < count; i++) {
      const row = from + i * fromStep;
      try {
        packRow(stored, row * rowBytes, packed, to + i * toStep);
      } catch (error) {
        if (error instanceof ValueProblem) throw new LlmError("bad-weights", `${where}, row ${row}: ${error.message}`, { cause: error });
        throw error;
      }
    }
  }
}

/** Decodes each row and encodes it again. */
function viaFloats(type: TensorType, { format, columns }: PackedRows) {
  const decode = DECODERS[type];
  const encode = ENCODERS[format];
  const row = new Float32Array(paddedColumns(columns));
  return (stored: DataView, at: number, packed: PackedRows, to: number): void => {
    decode(stored, at, row, columns);
    encode(row, packed, to);
  };
}

function rowBytesOf(type: TensorType, columns: number): number {
  const { elements, bytes } = TENSOR_BLOCKS[type];
  assert(columns % elements === 0, `rows of ${columns} in ${type}`);
  return (columns / elements) * bytes;
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array<ArrayBuffer>): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}
