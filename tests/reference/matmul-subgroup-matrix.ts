// Y = epilogue(X·Wᵀ + bias) in f64, of weights that were rounded to f16.
import { roundToHalf } from "../support/half";
import { type MatmulInputs, matmulTileReference } from "./matmul-tile";

/** [M, outputs] */
export function matmulSubgroupMatrixReference(inputs: MatmulInputs): Float64Array {
  return matmulTileReference({ ...inputs, w: Float64Array.from(inputs.w, roundToHalf) });
}
