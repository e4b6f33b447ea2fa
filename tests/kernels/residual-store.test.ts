import { residualStore } from "../../src/kernels/residual-store";
import { residualStoreReference } from "../reference/residual-store";
import { expectSame } from "../support/expect-close";
import { kernelTest } from "../support/kernel-test";
import type { Random } from "../support/random";
import { delicateRows, RESIDUAL_SIZES, type ResidualStep, residualStep, residualSteps, shapeOf, stateOf } from "../support/residual-steps";

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
