// Y = epilogue(X·Wᵀ + bias) in f64, of an x that was rounded to eight bits.
import { paddedColumns } from "../../src/weight-format";
import { type MatmulInputs, matmulTileReference } from "./matmul-tile";
import { dequantiseRows, quantiseRowsReference } from "./quantise-rows";
import { padRows } from "./random-matrix";

/** [M, outputs] */
export function matmulDp4aReference(inputs: MatmulInputs): Float64Array {
  const { columns } = inputs;
  const padded = dequantiseRows(quantiseRowsReference(padRows(Float32Array.from(inputs.x), columns)));
  const x = padded.filter((_, i) => i % paddedColumns(columns) < columns);
  return matmulTileReference({ ...inputs, x });
}
