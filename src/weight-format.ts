// The layouts that weights have on the GPU, whatever they had in their file. See docs/weight-layouts.md.

/**
 * - `f32`: K floats a row.
 * - `f16`: K halves a row, two in a u32, low first.
 * - `q8`: groups of 32 along K; 32 signed bytes, w = d·q.
 * - `q4`: groups of 32; 32 nibbles in Q4_0 order (byte i: low nibble w[i], high nibble w[i+16]), w = d·(q − 8).
 * - `q4m`: the same nibbles with a minimum, w = d·q + m.
 */
export type WeightFormat = "f32" | "f16" | "q8" | "q4" | "q4m";

/** Weights in a quantisation group; rows are padded with zeros to whole groups in every format. */
export const GROUP = 32;

/** A matrix [rows, columns] on its way to the GPU: codes row by row and, for q formats, scales row by row. */
export interface PackedMatrix {
  readonly format: WeightFormat;
  readonly rows: number;
  /** Columns before padding. */
  readonly columns: number;
  readonly codes: Uint8Array<ArrayBuffer>;
  /** q8, q4: one f16 a group, rows padded to an even number of groups. q4m: (d, m), two f16 a group. Empty for f32 and f16. */
  readonly scales: Uint8Array<ArrayBuffer>;
}

export function paddedColumns(columns: number): number {
  return Math.ceil(columns / GROUP) * GROUP;
}

const CODE_BITS: Readonly<Record<WeightFormat, number>> = { f32: 32, f16: 16, q8: 8, q4: 4, q4m: 4 };

/** Bytes of codes in a row. A multiple of 16 in every format: kernels load vec4<u32>. */
export function rowCodeBytes(format: WeightFormat, columns: number): number {
  return (paddedColumns(columns) * CODE_BITS[format]) / 8;
}

/** Bytes of scales in a row. A multiple of 4: kernels load u32. */
export function rowScaleBytes(format: WeightFormat, columns: number): number {
  const groups = paddedColumns(columns) / GROUP;
  if (format === "q4m") return groups * 4;
  if (format === "q8" || format === "q4") return Math.ceil(groups / 2) * 4;
  return 0;
}
