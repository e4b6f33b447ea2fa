import { matmulVector } from "../../src/kernels/matmul-vector";
import { matmulVectorReference } from "../reference/matmul-vector";
import { padRows, randomMatrix } from "../reference/random-matrix";
import { expectNmse } from "../support/expect-close";
import { kernelTest, unwritten } from "../support/kernel-test";

const MAX_NMSE = 1e-10;
const STEP = { rows: 1, positions: 1 };
const ONE_ROW = new Uint32Array([0, 1, 0, 0]);
const FORMATS = ["f32", "f16", "q8", "q4", "q4m"] as const;

kernelTest(
  matmulVector,
  { format: FORMATS, subgroups: [false, true], rows: [1, 3, 7, 65, 1000], columns: [100, 176, 576, 672] },
  async ({ run, random, format, subgroups, rows, columns }) => {
    const matrix = randomMatrix(random, format, rows, columns);
    const x = random.withOutliers([columns]);
    const options = { format, rows, columns, subgroups, bias: false, epilogue: "store", yOffset: 0 } as const;
    const { codes, scales } = matrix;
    const { y } = await run(options, STEP, { state: ONE_ROW, x: padRows(x, columns), codes, scales }, { y: unwritten(rows) });
    expectNmse(y, matmulVectorReference({ x, w: matrix.values, columns, epilogue: "store" }), MAX_NMSE);
  },
);
