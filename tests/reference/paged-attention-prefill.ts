// Causal attention, in f64, over K and V that lie in a row: [position][kvHead][headDim].

export interface AttentionInput {
  readonly headCount: number;
  readonly kvHeadCount: number;
  readonly headDim: number;
  readonly window: number | null;
  /** Floats between rows of `qkv`; a row begins with its queries. */
  readonly qkvStride: number;
  readonly qkv: ArrayLike<number>;
  readonly keys: ArrayLike<number>;
  readonly values: ArrayLike<number>;
  /** Of the first row. */
  readonly position: number;
  readonly rows: number;
}

/** [rows][headCount · headDim] */
export function pagedAttentionPrefillReference(input: AttentionInput): Float64Array {
  const { headCount, kvHeadCount, headDim, window, qkvStride, qkv, keys, values, position, rows } = input;
  const y = new Float64Array(rows * headCount * headDim);
  for (let row = 0; row < rows; row++) {
    const last = position + row;
    const first = window === null ? 0 : Math.max(0, last - window + 1);
    for (let head = 0; head < headCount; head++) {
      const kvHead = Math.floor((head * kvHeadCount) / headCount);
      const at = (seen: number) => (seen * kvHeadCount + kvHead) * headDim;
      const scores = Array.from(
        { length: last - first + 1 },
        (_, i) => dot(qkv, row * qkvStride + head * headDim, keys, at(first + i), headDim) / Math.sqrt(headDim),
      );
      const highest = scores.reduce((a, b) => Math.max(a, b));
      const weights = scores.map((score) => Math.exp(score - highest));
      const total = weights.reduce((a, b) => a + b);
      weights.forEach((weight, i) => {
        for (let d = 0; d < headDim; d++) {
          const target = (row * headCount + head) * headDim + d;
          y[target] = (y[target] ?? 0) + (weight / total) * (values[at(first + i) + d] ?? Number.NaN);
        }
      });
    }
  }
  return y;
}

function dot(a: ArrayLike<number>, aFrom: number, b: ArrayLike<number>, bFrom: number, length: number): number {
  let sum = 0;
  for (let i = 0; i < length; i++) sum += (a[aFrom + i] ?? Number.NaN) * (b[bFrom + i] ?? Number.NaN);
  return sum;
}
