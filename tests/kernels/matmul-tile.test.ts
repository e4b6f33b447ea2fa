import { matmulTile } from "../../src/kernels/matmul-tile";
import { matmulTileReference } from "../reference/matmul-tile";
import { padRows, randomMatrix } from "../reference/random-matrix";
import { expectNmse } from "../support/expect-close";
import { kernelTest, unwritten } from "../support/kernel-test";

const FORMATS = ["f32", "f16", "q8", "q4", "q4m"] as const;

kernelTest(
  matmulTile,
  {
    format: FORMATS,
    tile: ["large", "small", "direct"],
    shape: [
      [1, 3, 100],
      [7, 65, 576],
      [33, 1, 176],
      [130, 130, 96],
    ],
  },
  async ({ run, random, format, tile, shape: [m, rows, columns] }) => {
    const matrix = randomMatrix(random, format, rows, columns);
    const x = random.withOutliers([m, columns]);
    const state = new Uint32Array([0, m, 0, 0]);
    const options = { format, rows, columns, bias: false, epilogue: "store", yStride: rows, yOffset: 0, math: "f32", tile } as const;
    const { codes, scales } = matrix;
    const { y } = await run(
      options,
      { rows: m, positions: m },
      { state, x: padRows(x, columns), codes, scales },
      { y: unwritten(m * rows) },
    );
    expectNmse(y, matmulTileReference({ x, w: matrix.values, columns, epilogue: "store" }), 1e-10);
  },
);
