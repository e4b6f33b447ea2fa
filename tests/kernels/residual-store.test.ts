import { residualStore } from "../../src/kernels/residual-store";
import { paddedColumns } from "../../src/weight-format";
import { randomTable } from "../reference/paged-cache";
import { residualStoreReference } from "../reference/residual-store";
import { expectSame } from "../support/expect-close";
import { kernelTest } from "../support/kernel-test";
import type { Random } from "../support/random";

/** What residuals may be and arithmetic may lose: a negative zero, and numbers below the normal ones. */
const DELICATE = [-0, 1e-40, -1e-45];

/** A step's residuals, and pages full of others'. The row behind the step's, and padding everywhere, hold what must not be copied. */
function randomStep(random: Random, columns: number, pageSize: number, position: number, rows: number) {
  const stride = paddedColumns(columns);
  const table = randomTable(random, position + rows, pageSize);
  const x = random.withOutliers([rows + 1, stride]);
  x.set(DELICATE);
  return { columns, stride, pageSize, table, position, rows, x, residuals: random.uniform([table.length * pageSize * stride], 1e3, 6e4) };
}

kernelTest(residualStore, { columns: [4, 100, 576, 896], pageSize: [16, 64] }, async ({ run, random, columns, pageSize }) => {
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
    const result = await run({ columns, pageSize }, { rows: rows + 1, positions: position + rows }, { state, x, table }, { residuals });
    expectSame(result.residuals, residualStoreReference(step));
  }
});

// Steps submitted ahead run after a stop as well: the positions they would write to are then nobody's.
kernelTest(residualStore, { stopped: [1, 3] }, async ({ run, random, stopped }) => {
  const { x, table, residuals } = randomStep(random, 100, 16, 14, 5);
  const state = new Uint32Array([14, 5, stopped, 0]);
  const result = await run({ columns: 100, pageSize: 16 }, { rows: 5, positions: 19 }, { state, x, table }, { residuals });
  expectSame(result.residuals, residuals);
});
