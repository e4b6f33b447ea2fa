// Rotary embedding in f64: pairs (i, i + ropeDimensions / 2) of each query and key head turn, the rest passes.

export interface RotaryInput {
  readonly headCount: number;
  readonly kvHeadCount: number;
  readonly headDim: number;
  readonly ropeDimensions: number;
  readonly qkvStride: number;
  /** [rows, qkvStride] */
  readonly qkv: ArrayLike<number>;
  /** [positions, ropeDimensions / 2] pairs (cos, sin) */
  readonly rope: ArrayLike<number>;
  readonly position: number;
  readonly rows: number;
}

/** `qkv` with queries and keys turned. */
export function rotaryCacheReference(input: RotaryInput): Float64Array {
  const { headCount, kvHeadCount, headDim, ropeDimensions, qkvStride, qkv, rope, position, rows } = input;
  const turned = Float64Array.from(qkv);
  const half = ropeDimensions / 2;
  for (let row = 0; row < rows; row++) {
    for (let head = 0; head < headCount + kvHeadCount; head++) {
      for (let i = 0; i < half; i++) {
        const a = row * qkvStride + head * headDim + i;
        const angle = ((position + row) * half + i) * 2;
        const [cos, sin] = [rope[angle] ?? Number.NaN, rope[angle + 1] ?? Number.NaN];
        const [x, y] = [qkv[a] ?? Number.NaN, qkv[a + half] ?? Number.NaN];
        turned[a] = x * cos - y * sin;
        turned[a + half] = y * cos + x * sin;
      }
    }
  }
  return turned;
}
