// A packed matrix while its rows are written, with views of its bytes in the widths that writers use.
import { type PackedMatrix, rowCodeBytes, rowScaleBytes } from "../weight-format";

export interface PackedRows extends PackedMatrix {
  /** `codes` as signed bytes and as words. */
  readonly signedCodes: Int8Array<ArrayBuffer>;
  readonly codeWords: Uint32Array<ArrayBuffer>;
  /** `scales` as the bits of halves. */
  readonly scaleHalves: Uint16Array<ArrayBuffer>;
  /** Distance between rows, in elements of `codes` and of `scaleHalves`. */
  readonly codeStride: number;
  readonly scaleStride: number;
}

/** All zero, which is the padding of every format except q4; q4's encoder writes its padding. */
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
