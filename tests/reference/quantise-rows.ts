// Rows in eight bits: of each group of 32 values the scale that takes the largest to ±127, and the nearest whole multiples of it.
import type { Random } from "../support/random";

export interface QuantisedRows {
  readonly codes: Int8Array<ArrayBuffer>;
  /** f32 [groups, 2]: the scale, and the sum of scale · code. */
  readonly scales: Float32Array<ArrayBuffer>;
}

/** `x`: rows of whole groups. */
export function quantiseRowsReference(x: ArrayLike<number>): QuantisedRows {
  const codes = new Int8Array(x.length);
  const scales = new Float32Array(x.length / 16);
  for (let first = 0; first < x.length; first += 32) {
    const group = Float64Array.from({ length: 32 }, (_, i) => x[first + i] ?? Number.NaN);
    const largest = Math.max(...group.map(Math.abs));
    if (largest === 0) continue;
    codes.set(
      Int8Array.from(group, (value) => Math.round((value * 127) / largest)),
      first,
    );
    const sum = codes.subarray(first, first + 32).reduce((total, code) => total + code, 0);
    scales.set([largest / 127, (largest / 127) * sum], first / 16);
  }
  return { codes, scales };
}

/** What the codes stand for. */
export function dequantiseRows({ codes, scales }: QuantisedRows): Float64Array {
  return Float64Array.from(codes, (code, i) => code * (scales[2 * Math.floor(i / 32)] ?? Number.NaN));
}

/** Rows of `columns` values that eight bits hold, each group in a power of two of its own: no value is between two codes. */
export function rowsInEightBits(random: Random, rows: number, columns: number): Float32Array<ArrayBuffer> {
  const exponents = Int32Array.from({ length: Math.ceil(columns / 32) }, () => random.integer(12) - 6);
  return Float32Array.from({ length: rows * columns }, (_, i) => {
    const column = i % columns;
    const code = column % 32 === 0 ? 127 : random.integer(255) - 127;
    return code * 2 ** (exponents[Math.floor(column / 32)] ?? Number.NaN);
  });
}
