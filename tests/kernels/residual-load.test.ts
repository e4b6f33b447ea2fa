import { residualLoad } from "../../src/kernels/residual-load";
import { paddedColumns } from "../../src/weight-format";
import { residualLoadReference } from "../reference/residual-load";
import { BATCH, batchTables, rowOf } from "../support/batched-rows";
import { expectSame } from "../support/expect-close";
import { kernelTest, unwritten } from "../support/kernel-test";
import type { Random } from "../support/random";
import { delicateRows, RESIDUAL_SIZES, type ResidualStep, residualStep, residualSteps, shapeOf, stateOf } from "../support/residual-steps";
import { batchState } from "../support/step-state";

/** Pages full of residuals, and room for the step's rows and one more. */
function tensorsOf(random: Random, { table, pageSize, stride, rows }: ResidualStep) {
  return { residuals: delicateRows(random, table.length * pageSize, stride), x: unwritten((rows + 1) * stride) };
}

kernelTest(residualLoad, RESIDUAL_SIZES, async ({ run, random, columns, pageSize }) => {
  for (const step of residualSteps(random, columns, pageSize)) {
    const { x, residuals } = tensorsOf(random, step);
    const result = await run({ columns, pageSize }, shapeOf(step), { state: stateOf(step), table: step.table, residuals }, { x });
    expectSame(result.x, residualLoadReference({ ...step, x, residuals }));
  }
});

kernelTest(residualLoad, { stopped: [1, 3] }, async ({ run, random, stopped }) => {
  const step = residualStep(random, 100, 16, 14, 5);
  const { x, residuals } = tensorsOf(random, step);
  const tensors = { state: stateOf(step, stopped), table: step.table, residuals };
  const result = await run({ columns: 100, pageSize: 16 }, shapeOf(step), tensors, { x });
  expectSame(result.x, x);
});

// Sequences that decode together: each row from the pages of its own slot.
kernelTest(residualLoad, { batch: [4, 100], pageSize: [16, 64] }, async ({ run, random, batch: columns, pageSize }) => {
  const stride = paddedColumns(columns);
  const { table, tableStride, pages, pageCount } = batchTables(random, BATCH, pageSize);
  const residuals = delicateRows(random, pageCount * pageSize, stride);
  const x = unwritten((BATCH.length + 1) * stride);
  const shape = { rows: BATCH.length + 1, positions: 251 };
  const result = await run({ columns, pageSize, tableStride }, shape, { state: batchState(BATCH), table, residuals }, { x });
  const expected = x.slice();
  for (const [row, { position, stopped }] of BATCH.entries()) {
    if (stopped) continue;
    const step = { columns, stride, pageSize, table: pages[row] ?? [], position, rows: 1 };
    expected.set(residualLoadReference({ ...step, x: rowOf(x, row, stride), residuals }), row * stride);
  }
  expectSame(result.x, expected);
});
