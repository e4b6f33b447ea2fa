import { EPILOGUES } from "../../src/kernels/epilogue";
import { type MatmulTileOptions, matmulTile } from "../../src/kernels/matmul-tile";
import { WEIGHT_FORMATS } from "../../src/kernels/weight-defines";
import { matmulTileReference } from "../reference/matmul-tile";
import { checkProduct, PRODUCT_SHAPES } from "../support/check-product";
import { kernelTest } from "../support/kernel-test";

const held = { reference: matmulTileReference, maxNmse: 1e-11 };
const plain = { bias: false, epilogue: "store", yOffset: 0 } as const;

kernelTest(matmulTile, { format: WEIGHT_FORMATS, shape: PRODUCT_SHAPES }, async ({ run, random, format, shape: [m, rows, columns] }) => {
  const options = { ...plain, format, rows, columns, yStride: rows, tile: "direct" } as const;
  await checkProduct({ run, random, ...held }, options, random.withOutliers([m, columns]));
});

// Compiling these for SwiftShader takes seconds, so that one compilation serves all numbers of rows.
kernelTest(matmulTile, { format: WEIGHT_FORMATS, tile: ["large", "small"] }, async ({ run, random, format, tile }) => {
  const options = { ...plain, format, rows: 70, columns: 100, yStride: 70, tile } as const;
  for (const m of [1, 7, 16, 33, 64, 65, 130]) await checkProduct({ run, random, ...held }, options, random.withOutliers([m, 100]));
});

type Case = Required<Pick<MatmulTileOptions, "epilogue" | "bias" | "tile">>;
const cases: readonly Case[] = [
  ...EPILOGUES.flatMap((epilogue) => [true, false].map((bias) => ({ epilogue, bias, tile: "direct" as const }))),
  { epilogue: "silu-gated", bias: true, tile: "large" },
  { epilogue: "add", bias: true, tile: "small" },
];

kernelTest(matmulTile, { case: cases }, async ({ run, random, case: { epilogue, bias, tile } }) => {
  const yStride = epilogue === "silu-gated" ? 35 : 70;
  const options = { format: "q4m", rows: 70, columns: 100, bias, epilogue, yStride, yOffset: 0, tile } as const;
  await checkProduct({ run, random, ...held }, options, random.normal([17, 100], 3));
});

// The dispatch covers more rows than the step has, and the rows of y are wider than the product.
kernelTest(matmulTile, { tile: ["direct", "small"], epilogue: ["store", "silu-gated"] }, async ({ run, random, tile, epilogue }) => {
  const options = { ...plain, format: "q8", rows: 34, columns: 64, epilogue, yStride: 61, yOffset: 11, tile } as const;
  await checkProduct({ run, random, ...held }, options, random.normal([20, 64]), 50);
});
