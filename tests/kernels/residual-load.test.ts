import { residualLoad } from "../../src/kernels/residual-load";
import { paddedColumns } from "../../src/weight-format";
import { randomTable } from "../reference/paged-cache";
import { residualLoadReference } from "../reference/residual-load";
import { expectSame } from "../support/expect-close";
import { kernelTest, unwritten } from "../support/kernel-test";
import type { Random } from "../support/random";

/** Pages of residuals, and room for a step's rows and one more. */
function randomStep(random: Random, columns: number, pageSize: number, position: number, rows: number) {
  const stride = paddedColumns(columns);
  const table = randomTable(random, position + rows, pageSize);
  const residuals = random.withOutliers([table.length * pageSize, stride]);
  // What arithmetic may lose, in every row: a negative zero, and numbers below the normal ones.
  for (let row = 0; row < residuals.length; row += stride) residuals.set([-0, 1e-40, -1e-45], row);
  return { columns, stride, pageSize, table, position, rows, residuals, x: unwritten((rows + 1) * stride) };
}

kernelTest(residualLoad, { columns: [4, 100, 576, 896], pageSize: [16, 64] }, async ({ run, random, columns, pageSize }) => {
  for (const [position, rows] of [
    [0, 1],
    [pageSize - 1, 1],
    [pageSize, 1],
    [0, 2 * pageSize + 1],
    [3 * pageSize - 4, 7],
  ] as const) {
    const step = randomStep(random, columns, pageSize, position, rows);
    const { x, table, residuals } = step;
    const state = new Uint32Array([position, rows, 0, 0]);
    const result = await run({ columns, pageSize }, { rows: rows + 1, positions: position + rows }, { state, table, residuals }, { x });
    expectSame(result.x, residualLoadReference(step));
  }
});

kernelTest(residualLoad, { stopped: [1, 3] }, async ({ run, random, stopped }) => {
  const { x, table, residuals } = randomStep(random, 100, 16, 14, 5);
  const state = new Uint32Array([14, 5, stopped, 0]);
  const result = await run({ columns: 100, pageSize: 16 }, { rows: 5, positions: 19 }, { state, table, residuals }, { x });
  expectSame(result.x, x);
});
