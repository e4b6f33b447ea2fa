import { matmulSubgroupMatrix } from "../../src/kernels/matmul-subgroup-matrix";
import { WEIGHT_FORMATS } from "../../src/kernels/weight-defines";
import { matmulSubgroupMatrixReference } from "../reference/matmul-subgroup-matrix";
import { padRows, randomMatrix } from "../reference/random-matrix";
import { expectNmse, expectSame } from "../support/expect-close";
import { kernelTest, unwritten } from "../support/kernel-test";

// Weights near the middle between two halves may come out as either.
const MAX_NMSE = 1e-9;
// Below 1e-3 a sixteenth of x is no normal half: how those are rounded is the device's choice, and they are 6e-8 apart.
const maxNmseOf = (scale: number) => 1e-12 + (1e-6 / scale) ** 2;
const step = (rows: number) => ({ rows, positions: rows });
const state = (rows: number) => new Uint32Array([0, rows, 0, 0]);

kernelTest(
  matmulSubgroupMatrix,
  {
    format: WEIGHT_FORMATS,
    shape: [
      [1, 3, 100],
      [7, 65, 576],
      [64, 64, 32],
      [65, 130, 672],
      [130, 1000, 100],
    ],
  },
  async ({ run, random, format, shape: [m, rows, columns] }) => {
    const { codes, scales, values } = randomMatrix(random, format, rows, columns);
    const x = random.withOutliers([m, columns]);
    const options = { format, rows, columns, bias: false, epilogue: "store", yStride: rows, yOffset: 0 } as const;
    const { y } = await run(options, step(m), { state: state(m), x: padRows(x, columns), codes, scales }, { y: unwritten(m * rows) });
    expectNmse(y, matmulSubgroupMatrixReference({ x, w: values, columns, epilogue: "store" }), MAX_NMSE);
  },
);

// Activations of very different sizes, up to the million that a sixteenth in f16 holds: none loses digits, none becomes infinite.
kernelTest(matmulSubgroupMatrix, { scale: [1e-3, 1, 1e3, 2e5] }, async ({ run, random, scale }) => {
  const x = random.normal([70, 64], scale);
  const weights = random.ids(64 * 64, 5).map((code) => code - 2);
  const codes = Float32Array.from(weights, (code) => (code > 2 ** 31 ? code - 2 ** 32 : code));
  const options = { format: "f32", rows: 64, columns: 64, bias: false, epilogue: "store", yStride: 64, yOffset: 0 } as const;
  const { y } = await run(options, step(70), { state: state(70), x, codes }, { y: unwritten(70 * 64) });
  expectNmse(y, matmulSubgroupMatrixReference({ x, w: codes, columns: 64, epilogue: "store" }), maxNmseOf(scale));
});

kernelTest(
  matmulSubgroupMatrix,
  { epilogue: ["store", "add", "silu-gated", "gelu", "gelu-tanh"], bias: [true, false] },
  async ({ run, random, epilogue, bias }) => {
    const m = 17;
    const rows = 70;
    const columns = 100;
    const { codes, scales, values } = randomMatrix(random, "q4m", rows, columns);
    const x = random.normal([m, columns], 3);
    const biasValues = random.normal([rows]);
    const residual = random.normal([m * rows], 10);
    const outputs = epilogue === "silu-gated" ? rows / 2 : rows;
    const options = { format: "q4m", rows, columns, bias, epilogue, yStride: outputs, yOffset: 0 } as const;
    const tensors = { state: state(m), x: padRows(x, columns), codes, scales, bias: biasValues };
    const result = await run(options, step(m), tensors, { y: epilogue === "add" ? residual : unwritten(m * outputs) });
    const inputs = { x, w: values, columns, epilogue, residual, ...(bias ? { bias: biasValues } : {}) };
    expectNmse(result.y, matmulSubgroupMatrixReference(inputs), MAX_NMSE);
  },
);

// The dispatch covers more rows than the step has, and the rows of y are wider than the product.
kernelTest(matmulSubgroupMatrix, { epilogue: ["store", "silu-gated"] }, async ({ run, random, epilogue }) => {
  const m = 20;
  const rows = 34;
  const columns = 64;
  const yStride = 61;
  const yOffset = 11;
  const { codes, scales, values } = randomMatrix(random, "q8", rows, columns);
  const x = random.normal([m, columns]);
  const before = random.normal([(m + 130) * yStride]);
  const options = { format: "q8", rows, columns, bias: false, epilogue, yStride, yOffset } as const;
  const { y } = await run(options, step(m + 130), { state: state(m), x, codes, scales }, { y: before });
  const expected = matmulSubgroupMatrixReference({ x, w: values, columns, epilogue });
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
