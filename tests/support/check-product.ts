// One product of a prefill chunk on random tensors, held against its reference: what the tests of every such kernel share.
import type { MatmulTileOptions } from "../../src/kernels/matmul-tile";
import type { StepShape } from "../../src/kernels/step-shape";
import type { MatmulInputs } from "../reference/matmul-tile";
import { padRows, randomMatrix } from "../reference/random-matrix";
import { expectNmse, expectSame } from "./expect-close";
import type { RunKernel } from "./kernel-test";
import type { Random } from "./random";
import { stepState } from "./step-state";

/** [rows of x, rows of the matrix, columns] */
export const PRODUCT_SHAPES = [
  [1, 3, 100],
  [7, 65, 576],
  [16, 1, 176],
  [33, 130, 96],
  [65, 7, 672],
  [130, 64, 32],
  [64, 1000, 100],
] as const;

export type ProductOptions = Omit<MatmulTileOptions, "tile">;

export type ProductBinding = "state" | "x" | "codes" | "scales" | "bias" | "y";

interface ProductUnderTest<Options> {
  readonly run: RunKernel<ProductBinding, Options, StepShape>;
  readonly random: Random;
  readonly reference: (inputs: MatmulInputs) => Float64Array;
  readonly maxNmse: number;
}

/**
 * The product of `x` [rows of the step, columns] and a random matrix. y holds random values before, which `add` adds to, and keeps them
 * where there is no output: between rows, and in rows that are dispatched beyond the step's.
 */
export async function checkProduct<Options extends ProductOptions>(
  { run, random, reference, maxNmse }: ProductUnderTest<Options>,
  options: Options,
  x: Float32Array<ArrayBuffer>,
  dispatchedRows = x.length / options.columns,
): Promise<void> {
  const { format, rows, columns, bias, epilogue, yStride, yOffset } = options;
  const stepRows = x.length / columns;
  const { codes, scales, values } = randomMatrix(random, format, rows, columns);
  const biasValues = random.normal([rows]);
  const before = random.normal([dispatchedRows, yStride], 10);
  const width = epilogue === "silu-gated" ? rows / 2 : rows;
  const isOutput = (_: number, i: number) => i < stepRows * yStride && i % yStride >= yOffset && i % yStride < yOffset + width;
  const isOther = (value: number, i: number) => !isOutput(value, i);

  const tensors = { state: stepState({ position: 0, rows: stepRows }), x: padRows(x, columns), codes, scales, bias: biasValues };
  const { y } = await run(options, { rows: dispatchedRows, positions: dispatchedRows }, tensors, { y: before });
  const inputs = { x, w: values, columns, epilogue, residual: before.filter(isOutput), ...(bias ? { bias: biasValues } : {}) };
  expectNmse(y.filter(isOutput), reference(inputs), maxNmse);
  expectSame(y.filter(isOther), before.filter(isOther));
}
