import { residualLoad } from "../../src/kernels/residual-load";
import { residualLoadReference } from "../reference/residual-load";
import { expectSame } from "../support/expect-close";
import { kernelTest, unwritten } from "../support/kernel-test";
import type { Random } from "../support/random";
import { delicateRows, RESIDUAL_SIZES, type ResidualStep, residualStep, residualSteps, shapeOf, stateOf } from "../support/residual-steps";

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
