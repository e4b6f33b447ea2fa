import { type MatmulTileOptions, matmulTile } from "../../src/kernels/matmul-tile";
import { WEIGHT_FORMATS } from "../../src/kernels/weight-defines";
import { matmulTileReference } from "../reference/matmul-tile";
import { padRows, randomMatrix } from "../reference/random-matrix";
import { expectNmse, expectSame } from "../support/expect-close";
import { kernelTest, unwritten } from "../support/kernel-test";

const MAX_NMSE = 1e-11;
const step = (rows: number) => ({ rows, positions: rows });
const state = (rows: number) => new Uint32Array([0, rows, 0, 0]);
const plain = { bias: false, epilogue: "store", yOffset: 0 } as const;

kernelTest(
  matmulTile,
  {
    format: WEIGHT_FORMATS,
    shape: [
      [1, 3, 100],
      [7, 65, 576],
      [16, 1, 176],
      [33, 130, 96],
      [65, 7, 672],
      [130, 64, 32],
      [64, 1000, 100],
    ],
  },
  async ({ run, random, format, shape: [m, rows, columns] }) => {
    const { codes, scales, values } = randomMatrix(random, format, rows, columns);
    const x = random.withOutliers([m, columns]);
    const options = { ...plain, format, rows, columns, yStride: rows, tile: "direct" } as const;
    const { y } = await run(options, step(m), { state: state(m), x: padRows(x, columns), codes, scales }, { y: unwritten(m * rows) });
    expectNmse(y, matmulTileReference({ x, w: values, columns, epilogue: "store" }), MAX_NMSE);
  },
);

// Compiling these for SwiftShader takes seconds, so that one compilation serves all numbers of rows.
kernelTest(matmulTile, { format: WEIGHT_FORMATS, tile: ["large", "small"] }, async ({ run, random, format, tile }) => {
  const rows = 70;
  const columns = 100;
  const { codes, scales, values } = randomMatrix(random, format, rows, columns);
  const options = { ...plain, format, rows, columns, yStride: rows, tile } as const;
  for (const m of [1, 7, 16, 33, 64, 65, 130]) {
    const x = random.withOutliers([m, columns]);
    const { y } = await run(options, step(m), { state: state(m), x: padRows(x, columns), codes, scales }, { y: unwritten(m * rows) });
    expectNmse(y, matmulTileReference({ x, w: values, columns, epilogue: "store" }), MAX_NMSE);
  }
});

const EPILOGUES = ["store", "add", "silu-gated", "gelu", "gelu-tanh"] as const;
type Case = Required<Pick<MatmulTileOptions, "epilogue" | "bias" | "tile">>;
const cases: readonly Case[] = [
  ...EPILOGUES.flatMap((epilogue) => [true, false].map((bias) => ({ epilogue, bias, tile: "direct" as const }))),
  { epilogue: "silu-gated", bias: true, tile: "large" },
  { epilogue: "add", bias: true, tile: "small" },
];

kernelTest(matmulTile, { case: cases }, async ({ run, random, case: { epilogue, bias, tile } }) => {
  const m = 17;
  const rows = 70;
  const columns = 100;
  const { codes, scales, values } = randomMatrix(random, "q4m", rows, columns);
  const x = random.normal([m, columns], 3);
  const biasValues = random.normal([rows]);
  const residual = random.normal([m * rows], 10);
  const outputs = epilogue === "silu-gated" ? rows / 2 : rows;
  const y = epilogue === "add" ? residual : unwritten(m * outputs);
  const options = { format: "q4m", rows, columns, bias, epilogue, yStride: outputs, yOffset: 0, tile } as const;
  const tensors = { state: state(m), x: padRows(x, columns), codes, scales, bias: biasValues };
  const result = await run(options, step(m), tensors, { y });
  const inputs = { x, w: values, columns, epilogue, residual, ...(bias ? { bias: biasValues } : {}) };
  expectNmse(result.y, matmulTileReference(inputs), MAX_NMSE);
});

// The dispatch covers more rows than the step has, and the rows of y are wider than the product.
kernelTest(matmulTile, { tile: ["direct", "small"], epilogue: ["store", "silu-gated"] }, async ({ run, random, tile, epilogue }) => {
  const m = 20;
  const rows = 34;
  const columns = 64;
  const yStride = 61;
  const yOffset = 11;
  const { codes, scales, values } = randomMatrix(random, "q8", rows, columns);
  const x = random.normal([m, columns]);
  const before = random.normal([(m + 30) * yStride]);
  const options = { ...plain, format: "q8", rows, columns, epilogue, yStride, yOffset, tile } as const;
  const { y } = await run(options, step(m + 30), { state: state(m), x, codes, scales }, { y: before });
  const expected = matmulTileReference({ x, w: values, columns, epilogue });
  const width = expected.length / m;
  const written = (i: number) => i < m * yStride && i % yStride >= yOffset && i % yStride < yOffset + width;
  expectNmse(
    y.filter((_, i) => written(i)),
    expected,
    MAX_NMSE,
  );
  expectSame(
    y.filter((_, i) => !written(i)),
    before.filter((_, i) => !written(i)),
  );
});
