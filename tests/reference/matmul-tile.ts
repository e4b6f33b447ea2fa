// Y = epilogue(X·Wᵀ + bias) in f64.
import type { Epilogue } from "../../src/kernels/epilogue";

export interface MatmulInputs {
  /** [M, columns] */
  readonly x: ArrayLike<number>;
  /** [rows, columns] */
  readonly w: ArrayLike<number>;
  readonly columns: number;
  readonly bias?: ArrayLike<number>;
  readonly epilogue: Epilogue;
  /** What `add` adds to: [M, rows]. */
  readonly residual?: ArrayLike<number>;
}

/** [M, outputs] */
export function matmulTileReference(inputs: MatmulInputs): Float64Array {
  const { x, columns } = inputs;
  const m = x.length / columns;
  const rows = Array.from({ length: m }, (_, i) => applyEpilogue(product(inputs, i), i, inputs));
  const width = rows[0]?.length ?? 0;
  const y = new Float64Array(m * width);
  rows.forEach((row, i) => {
    y.set(row, i * width);
  });
  return y;
}

function product({ x, w, columns, bias }: MatmulInputs, m: number): Float64Array {
  return Float64Array.from({ length: w.length / columns }, (_, n) => {
    let sum = bias?.[n] ?? 0;
    for (let k = 0; k < columns; k++) sum += (x[m * columns + k] ?? 0) * (w[n * columns + k] ?? 0);
    return sum;
  });
}

function applyEpilogue(sums: Float64Array, m: number, { epilogue, residual }: MatmulInputs): Float64Array {
  switch (epilogue) {
    case "store":
      return sums;
    case "add":
      return sums.map((sum, n) => sum + (residual?.[m * sums.length + n] ?? 0));
    case "silu-gated":
      return Float64Array.from({ length: sums.length / 2 }, (_, i) => silu(sums[2 * i] ?? 0) * (sums[2 * i + 1] ?? 0));
    case "gelu":
      return sums.map((sum) => 0.5 * sum * erfc(-sum / Math.SQRT2));
    case "gelu-tanh":
      return sums.map((sum) => 0.5 * sum * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (sum + 0.044715 * sum ** 3))));
    default:
      return epilogue satisfies never;
  }
}

function silu(value: number): number {
  return value / (1 + Math.exp(-value));
}

/** To f64's precision: the series of erf near 0, Lentz's continued fraction of erfc beyond. */
function erfc(value: number): number {
  if (value < 0) return 2 - erfc(-value);
  if (value < 2.5) {
    let term = value;
    let sum = value;
    for (let n = 1; Math.abs(term) > 1e-18 * sum; n++) {
      term *= (-value * value) / n;
      sum += term / (2 * n + 1);
    }
    return 1 - (2 / Math.sqrt(Math.PI)) * sum;
  }
  let fraction = 0;
  for (let n = 60; n > 0; n--) fraction = n / 2 / (value + fraction);
  return Math.exp(-value * value) / Math.sqrt(Math.PI) / (value + fraction);
}
