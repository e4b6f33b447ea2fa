// LayerNorm of each row, in f64.

export function layerNormReference(
  x: ArrayLike<number>,
  weight: ArrayLike<number>,
  bias: ArrayLike<number>,
  epsilon: number,
): Float64Array {
  const columns = weight.length;
  const y = new Float64Array(x.length);
  for (let row = 0; row < x.length; row += columns) {
    let sum = 0;
    for (let i = 0; i < columns; i++) sum += x[row + i] ?? 0;
    const mean = sum / columns;
    let squares = 0;
    for (let i = 0; i < columns; i++) squares += ((x[row + i] ?? 0) - mean) ** 2;
    const scale = 1 / Math.sqrt(squares / columns + epsilon);
    for (let i = 0; i < columns; i++) y[row + i] = ((x[row + i] ?? 0) - mean) * scale * (weight[i] ?? 0) + (bias[i] ?? 0);
  }
  return y;
}
