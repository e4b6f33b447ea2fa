// Combines attention over parts of a context, in f64. A record is headDim sums, their maximum score, their total weight.

/** `records`: [split][head] for the splits that were computed. Gives [head][headDim]. */
export function pagedAttentionReduceReference(records: ArrayLike<number>, headCount: number, headDim: number): Float64Array {
  const size = headDim + 2;
  const splits = records.length / (headCount * size);
  const y = new Float64Array(headCount * headDim);
  for (let head = 0; head < headCount; head++) {
    const record = (split: number, i: number) => records[(split * headCount + head) * size + i] ?? Number.NaN;
    const all = Array.from({ length: splits }, (_, split) => split);
    const highest = Math.max(...all.map((split) => record(split, headDim)));
    const scale = (split: number) => Math.exp(record(split, headDim) - highest);
    const total = all.reduce((sum, split) => sum + record(split, headDim + 1) * scale(split), 0);
    for (let d = 0; d < headDim; d++) {
      y[head * headDim + d] = all.reduce((sum, split) => sum + record(split, d) * scale(split), 0) / total;
    }
  }
  return y;
}
