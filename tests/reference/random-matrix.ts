// Random weight matrices in the canonical layouts, with the values that the bits mean, in f64. An independent reading of the layouts.
import { type PackedMatrix, paddedColumns, rowCodeBytes, rowScaleBytes, type WeightFormat } from "../../src/weight-format";
import { halfBits, halfValue } from "../support/half";
import type { Random } from "../support/random";

export interface RandomMatrix extends PackedMatrix {
  /** [rows, columns], row by row. */
  readonly values: Float64Array;
}

/** Weights about as large as a model's; of several groups of columns, one is zero in every row. */
export function randomMatrix(random: Random, format: WeightFormat, rows: number, columns: number): RandomMatrix {
  const codes = new Uint8Array(rows * rowCodeBytes(format, columns));
  const scales = new Uint8Array(rows * rowScaleBytes(format, columns));
  const matrix = { format, rows, columns, codes, scales, values: new Float64Array(rows * columns) };
  const wanted = format === "f32" || format === "f16" ? random.normal([rows, columns], 0.05) : null;
  const groups = paddedColumns(columns) / 32;
  const zeroGroup = groups > 1 ? random.integer(groups) : -1;
  for (let row = 0; row < rows; row++) {
    for (let group = 0; group < groups; group++) fillGroup(random, matrix, wanted, row, group, group === zeroGroup);
  }
  return matrix;
}

function fillGroup(random: Random, matrix: RandomMatrix, wanted: Float32Array | null, row: number, group: number, zero: boolean): void {
  const { format, columns, codes, scales, values } = matrix;
  const codeView = new DataView(codes.buffer, row * rowCodeBytes(format, columns));
  const scaleView = new DataView(scales.buffer, row * rowScaleBytes(format, columns));
  const halfAt = (index: number, value: number): number => {
    const bits = halfBits(zero ? 0 : value);
    scaleView.setUint16(index * 2, bits, true);
    return halfValue(bits);
  };
  const quantised = format !== "f32" && format !== "f16";
  const scale = quantised ? halfAt(format === "q4m" ? group * 2 : group, 0.002 + random.next() * 0.02) : 1;
  const minimum = format === "q4m" ? halfAt(group * 2 + 1, -random.next() * 0.15) : 0;
  for (let i = 0; i < 32; i++) {
    const column = group * 32 + i;
    const padding = column >= columns;
    const value = zero || padding ? 0 : (wanted?.[row * columns + column] ?? 0);
    const decoded = writeCode(random, codeView, format, group, i, value, padding);
    if (padding) continue;
    values[row * columns + column] = scale * decoded + minimum;
  }
}

/** Writes one weight's code and gives what it means before scale and minimum: `value`, or a random code of its own. */
function writeCode(
  random: Random,
  view: DataView,
  format: WeightFormat,
  group: number,
  i: number,
  value: number,
  padding: boolean,
): number {
  const column = group * 32 + i;
  switch (format) {
    case "f32":
      view.setFloat32(column * 4, value, true);
      return view.getFloat32(column * 4, true);
    case "f16":
      view.setUint16(column * 2, halfBits(value), true);
      return halfValue(halfBits(value));
    case "q8": {
      const code = padding ? 0 : random.integer(256) - 128;
      view.setInt8(column, code);
      return code;
    }
    case "q4":
    case "q4m": {
      const code = padding ? (format === "q4" ? 8 : 0) : random.integer(16);
      const at = group * 16 + (i % 16);
      view.setUint8(at, view.getUint8(at) | (i < 16 ? code : code << 4));
      return format === "q4" ? code - 8 : code;
    }
    default:
      return format satisfies never;
  }
}

/** Rows of `columns` values each at a stride of paddedColumns(columns), the padding zero. */
export function padRows(values: Float32Array, columns: number): Float32Array<ArrayBuffer> {
  const rows = values.length / columns;
  const stride = paddedColumns(columns);
  const padded = new Float32Array(rows * stride);
  for (let row = 0; row < rows; row++) padded.set(values.subarray(row * columns, (row + 1) * columns), row * stride);
  return padded;
}

/** The first `columns` values of each row of `stride`. */
export function unpadRows(values: Float32Array, columns: number, stride = paddedColumns(columns)): Float32Array<ArrayBuffer> {
  const rows = Math.floor(values.length / stride);
  const packed = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) packed.set(values.subarray(row * stride, row * stride + columns), row * columns);
  return packed;
}
