import { EPILOGUES } from "../../src/kernels/epilogue";
import { matmulSubgroupMatrix } from "../../src/kernels/matmul-subgroup-matrix";
import { WEIGHT_FORMATS } from "../../src/kernels/weight-defines";
import { matmulSubgroupMatrixReference } from "../reference/matmul-subgroup-matrix";
import { checkProduct, PRODUCT_SHAPES } from "../support/check-product";
import { expectNmse } from "../support/expect-close";
import { kernelTest, unwritten } from "../support/kernel-test";
import { stepState } from "../support/step-state";

// Weights near the middle between two halves may come out as either.
const held = { reference: matmulSubgroupMatrixReference, maxNmse: 1e-9 };
// Below 1e-3 a sixteenth of x is no normal half: how those are rounded is the device's choice, and they are 6e-8 apart.
const maxNmseOf = (scale: number) => 1e-12 + (1e-6 / scale) ** 2;

kernelTest(
  matmulSubgroupMatrix,
  { format: WEIGHT_FORMATS, shape: PRODUCT_SHAPES },
  async ({ run, random, format, shape: [m, rows, columns] }) => {
    const options = { format, rows, columns, bias: false, epilogue: "store", yStride: rows, yOffset: 0 } as const;
    await checkProduct({ run, random, ...held }, options, random.withOutliers([m, columns]));
  },
);

// Activations of very different sizes, up to the million that a sixteenth in f16 holds: none loses digits, none becomes infinite.
kernelTest(matmulSubgroupMatrix, { scale: [1e-3, 1, 1e3, 2e5] }, async ({ run, random, scale }) => {
  const x = random.normal([70, 64], scale);
  const weights = random.ids(64 * 64, 5).map((code) => code - 2);
  const codes = Float32Array.from(weights, (code) => (code > 2 ** 31 ? code - 2 ** 32 : code));
  const options = { format: "f32", rows: 64, columns: 64, bias: false, epilogue: "store", yStride: 64, yOffset: 0 } as const;
  const state = stepState({ position: 0, rows: 70 });
  const { y } = await run(options, { rows: 70, positions: 70 }, { state, x, codes }, { y: unwritten(70 * 64) });
  expectNmse(y, matmulSubgroupMatrixReference({ x, w: codes, columns: 64, epilogue: "store" }), maxNmseOf(scale));
});

kernelTest(matmulSubgroupMatrix, { epilogue: EPILOGUES, bias: [true, false] }, async ({ run, random, epilogue, bias }) => {
  const yStride = epilogue === "silu-gated" ? 35 : 70;
  const options = { format: "q4m", rows: 70, columns: 100, bias, epilogue, yStride, yOffset: 0 } as const;
  await checkProduct({ run, random, ...held }, options, random.normal([17, 100], 3));
});

// The dispatch covers more rows than the step has, and the rows of y are wider than the product.
kernelTest(matmulSubgroupMatrix, { epilogue: ["store", "silu-gated"] }, async ({ run, random, epilogue }) => {
  const options = { format: "q8", rows: 34, columns: 64, bias: false, epilogue, yStride: 61, yOffset: 11 } as const;
  await checkProduct({ run, random, ...held }, options, random.normal([20, 64]), 150);
});
