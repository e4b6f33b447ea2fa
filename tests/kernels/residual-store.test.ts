import { residualStore } from "../../src/kernels/residual-store";
import { paddedColumns } from "../../src/weight-format";
import { residualStoreReference } from "../reference/residual-store";
import { BATCH, batchTables, rowOf } from "../support/batched-rows";
import { expectSame } from "../support/expect-close";
import { kernelTest } from "../support/kernel-test";
import type { Random } from "../support/random";
import { delicateRows, RESIDUAL_SIZES, type ResidualStep, residualStep, residualSteps, shapeOf, stateOf } from "../support/residual-steps";
import { batchState } from "../support/step-state";

/** The step's residuals and a row behind them that must not be copied, as the padding must not; and pages full of others'. */
function tensorsOf(random: Random, { table, pageSize, stride, rows }: ResidualStep) {
  return { x: delicateRows(random, rows + 1, stride), residuals: random.uniform([table.length * pageSize * stride], 1e3, 6e4) };
}

kernelTest(residualStore, RESIDUAL_SIZES, async ({ run, random, columns, pageSize }) => {
  for (const step of residualSteps(random, columns, pageSize)) {
    const { x, residuals } = tensorsOf(random, step);
    const result = await run({ columns, pageSize }, shapeOf(step), { state: stateOf(step), x, table: step.table }, { residuals });
    expectSame(result.residuals, residualStoreReference({ ...step, x, residuals }));
  }
});

// Steps submitted ahead run after a stop as well: the positions they would write to are then nobody's.
kernelTest(residualStore, { stopped: [1, 3] }, async ({ run, random, stopped }) => {
  const step = residualStep(random, 100, 16, 14, 5);
  const { x, residuals } = tensorsOf(random, step);
  const tensors = { state: stateOf(step, stopped), x, table: step.table };
  const result = await run({ columns: 100, pageSize: 16 }, shapeOf(step), tensors, { residuals });
  expectSame(result.residuals, residuals);
});

// Sequences that decode together: each row to the pages of its own slot.
kernelTest(residualStore, { batch: [4, 100], pageSize: [16, 64] }, async ({ run, random, batch: columns, pageSize }) => {
  const stride = paddedColumns(columns);
  const { table, tableStride, pages, pageCount } = batchTables(random, BATCH, pageSize);
  const residuals = random.uniform([pageCount * pageSize * stride], 1e3, 6e4);
  const x = delicateRows(random, BATCH.length + 1, stride);
  const shape = { rows: BATCH.length + 1, positions: 251 };
  const result = await run({ columns, pageSize, tableStride }, shape, { state: batchState(BATCH), x, table }, { residuals });
  let expected: Float32Array = residuals;
  for (const [row, { position, stopped }] of BATCH.entries()) {
    if (stopped) continue;
    const step = { columns, stride, pageSize, table: pages[row] ?? [], position, rows: 1 };
    expected = residualStoreReference({ ...step, x: rowOf(x, row, stride), residuals: expected });
  }
  expectSame(result.residuals, expected);
});
