// A packed matrix while its rows are written: its bytes, seen in the widths that writers use.
import { type PackedMatrix, rowCodeBytes, rowScaleBytes } from "../weight-format";

export interface PackedRows extends PackedMatrix {
  /** `codes` as signed bytes and as words. */
  readonly signedCodes: Int8Array<ArrayBuffer>;
  readonly codeWords: Uint32Array<ArrayBuffer>;
  /** `scales` as the bits of halves. */
  readonly scaleHalves: Uint16Array<ArrayBuffer>;
  /** From one row to the next, in `codes` and in `scaleHalves`. */
  readonly codeStride: number;
  readonly scaleStride: number;
}

/** All zero: padding that nobody writes is 0 in every format but q4, whose encoder writes it. */
export function newPackedRows({ format, rows, columns }: Pick<PackedMatrix, "format" | "rows" | "columns">): PackedRows {
  const codeStride = rowCodeBytes(format, columns);
  const codes = new Uint8Array(rows * codeStride);
  const scales = new Uint8Array(rows * rowScaleBytes(format, columns));
  return {
    ...{ format, rows, columns, codes, scales },
    signedCodes: new Int8Array(codes.buffer),
    codeWords: new Uint32Array(codes.buffer),
    scaleHalves: new Uint16Array(scales.buffer),
    codeStride,
    scaleStride: rowScaleBytes(format, columns) / 2,
  };
}
