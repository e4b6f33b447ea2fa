// Y = epilogue(X·Wᵀ + bias) in f64, of weights and a sixteenth of x that were rounded to f16, ties away from zero.
import { type MatmulInputs, matmulTileReference } from "./matmul-tile";

/** [M, outputs] */
export function matmulSubgroupMatrixReference(inputs: MatmulInputs): Float64Array {
  const x = Float64Array.from(inputs.x, (value) => 16 * toHalf(value / 16));
  return matmulTileReference({ ...inputs, x, w: Float64Array.from(inputs.w, toHalf) });
}

function toHalf(value: number): number {
  if (value === 0) return 0;
  const magnitude = Math.min(Math.abs(value), 65_504);
  const unit = 2 ** (Math.max(-14, Math.floor(Math.log2(magnitude))) - 10);
  return Math.sign(value) * Math.floor(magnitude / unit + 0.5) * unit;
}
