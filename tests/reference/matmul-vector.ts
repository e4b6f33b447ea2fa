// y = epilogue(W·norm(x) + bias) in f64: one row of the tile's product after RMSNorm.
import { type MatmulInputs, matmulTileReference } from "./matmul-tile";
import { rmsNormReference } from "./rms-norm";

export interface MatvecInputs extends MatmulInputs {
  readonly norm?: { readonly weight: ArrayLike<number>; readonly epsilon: number };
}

/** [outputs], for the last row of x. */
export function matmulVectorReference({ norm, ...inputs }: MatvecInputs): Float64Array {
  const last = Float64Array.from(inputs.x).subarray(-inputs.columns);
  return matmulTileReference({ ...inputs, x: norm ? rmsNormReference(last, norm.weight, norm.epsilon) : last });
}
