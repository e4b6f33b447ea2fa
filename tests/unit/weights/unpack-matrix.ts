// Reads packed matrices back as numbers: an independent implementation, from docs/weight-layouts.md alone.
import { type PackedMatrix, paddedColumns, rowCodeBytes, rowScaleBytes } from "../../../src/weight-format";
import { halfValue } from "../../support/half";

/** [rows, paddedColumns(columns)], padding included. */
export function unpackMatrix(matrix: PackedMatrix): Float32Array<ArrayBuffer> {
  const { rows, columns, format } = matrix;
  const stride = paddedColumns(columns);
  const codes = new DataView(matrix.codes.buffer, matrix.codes.byteOffset, matrix.codes.byteLength);
  const scales = new DataView(matrix.scales.buffer, matrix.scales.byteOffset, matrix.scales.byteLength);
  const half = (row: number, index: number) => halfValue(scales.getUint16(row * rowScaleBytes(format, columns) + 2 * index, true));
  const value = (row: number, column: number): number => {
    const rowAt = row * rowCodeBytes(format, columns);
    const group = Math.floor(column / 32);
    const inGroup = column % 32;
    const pair = () => codes.getUint8(rowAt + group * 16 + (inGroup % 16));
    const nibble = () => (inGroup < 16 ? pair() % 16 : Math.floor(pair() / 16));
    switch (format) {
      case "f32":
        return codes.getFloat32(rowAt + 4 * column, true);
      case "f16":
        return halfValue(codes.getUint16(rowAt + 2 * column, true));
      case "q8":
        return half(row, group) * codes.getInt8(rowAt + column);
      case "q4":
        return half(row, group) * (nibble() - 8);
      case "q4m":
        return half(row, 2 * group) * nibble() + half(row, 2 * group + 1);
      default:
        return format satisfies never;
    }
  };
  return Float32Array.from({ length: rows * stride }, (_, index) => value(Math.floor(index / stride), index % stride));
}
