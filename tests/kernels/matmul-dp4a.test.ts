import { expect } from "vitest";
import { EPILOGUES } from "../../src/kernels/epilogue";
import { DP4A_FORMATS, DP4A_TILE, type MatmulDp4aOptions, matmulDp4a } from "../../src/kernels/matmul-dp4a";
import { quantiseRows } from "../../src/kernels/quantise-rows";
import type { StepShape } from "../../src/kernels/step-shape";
import { matmulDp4aReference } from "../reference/matmul-dp4a";
import { quantiseRowsReference, rowsInEightBits } from "../reference/quantise-rows";
import { checkProduct, PRODUCT_SHAPES, type ProductBinding } from "../support/check-product";
import { kernelTest, type RunKernel, runKernel, unwritten } from "../support/kernel-test";

type Run = RunKernel<(typeof matmulDp4a.bindings)[number], MatmulDp4aOptions, StepShape>;

// Of few threads, for adapters in software.
const TINY = { rows: 16, columns: 16, threadRows: 4 };
const held = { reference: matmulDp4aReference, maxNmse: 1e-12 };
const plain = { bias: false, epilogue: "store", yOffset: 0 } as const;

/** The kernel's run on an x in f32, quantised as the reference has it. */
function onQuantised(run: Run): RunKernel<ProductBinding, MatmulDp4aOptions, StepShape> {
  return (options, shape, { x, ...tensors }, outputs) => {
    const { codes, scales } = quantiseRowsReference(x ?? []);
    return run(options, shape, { ...tensors, x_codes: new Uint8Array(codes.buffer), x_scales: scales }, outputs);
  };
}

kernelTest(matmulDp4a, { format: DP4A_FORMATS, shape: PRODUCT_SHAPES }, async ({ run, random, format, shape: [m, rows, columns] }) => {
  const options = { ...plain, format, rows, columns, yStride: rows, tile: TINY };
  await checkProduct({ run: onQuantised(run), random, ...held }, options, random.withOutliers([m, columns]));
});

// Compiling these for SwiftShader takes seconds, so that one compilation serves all numbers of rows.
kernelTest(matmulDp4a, { format: DP4A_FORMATS, tile: [DP4A_TILE] }, async ({ run, random, format, tile }) => {
  const options = { ...plain, format, rows: 70, columns: 100, yStride: 70, tile };
  for (const m of [1, 7, 33, 128, 130]) {
    await checkProduct({ run: onQuantised(run), random, ...held }, options, random.withOutliers([m, 100]));
  }
});

kernelTest(matmulDp4a, { epilogue: EPILOGUES, bias: [true, false] }, async ({ run, random, epilogue, bias }) => {
  const yStride = epilogue === "silu-gated" ? 35 : 70;
  const options = { format: "q4m", rows: 70, columns: 100, bias, epilogue, yStride, yOffset: 0, tile: TINY } as const;
  await checkProduct({ run: onQuantised(run), random, ...held }, options, random.normal([17, 100], 3));
});

// The dispatch covers more rows than the step has, and the rows of y are wider than the product.
kernelTest(matmulDp4a, { epilogue: ["store", "silu-gated"] }, async ({ run, random, epilogue }) => {
  const options = { ...plain, format: "q8", rows: 34, columns: 64, epilogue, yStride: 61, yOffset: 11, tile: TINY } as const;
  await checkProduct({ run: onQuantised(run), random, ...held }, options, random.normal([20, 64]), 50);
});

// Both kernels, one after the other.
kernelTest(matmulDp4a, { format: DP4A_FORMATS }, async ({ run, random, gpu, format }) => {
  const options = { ...plain, format, rows: 40, columns: 200, yStride: 40, tile: TINY };
  const quantised: RunKernel<ProductBinding, MatmulDp4aOptions, StepShape> = async (o, shape, { x, ...tensors }, outputs) => {
    expect(x).toHaveLength(9 * 224);
    const y = { x_codes: new Uint32Array(9 * 56), x_scales: unwritten(9 * 14) };
    const inputs = { ...(tensors.state && { state: tensors.state }), ...(x && { x }) };
    return run(o, shape, { ...tensors, ...(await runKernel(gpu, quantiseRows, { columns: 200 }, shape, inputs, y)) }, outputs);
  };
  await checkProduct({ run: quantised, random, ...held }, options, rowsInEightBits(random, 9, 200));
});
