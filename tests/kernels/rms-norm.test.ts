import { rmsNorm } from "../../src/kernels/rms-norm";
import { padRows, unpadRows } from "../reference/random-matrix";
import { rmsNormReference } from "../reference/rms-norm";
import { expectClose } from "../support/expect-close";
import { kernelTest, unwritten } from "../support/kernel-test";
import { stepState } from "../support/step-state";

kernelTest(
  rmsNorm,
  { subgroups: [false, true], rows: [1, 7, 65], columns: [4, 100, 576, 2052, 8192] },
  async ({ run, random, subgroups, rows, columns }) => {
    const x = random.withOutliers([rows, columns]);
    if (rows > 1) x.fill(0, 0, columns); // a row of zeros: ε keeps it finite
    const weight = random.normal([columns]);
    const options = { columns, epsilon: 1e-5, subgroups };
    const tensors = { state: stepState({ position: 0, rows }), x: padRows(x, columns), weight };
    const { y } = await run(options, { rows: rows + 1, positions: rows }, tensors, { y: padRows(unwritten(rows * columns), columns) });
    expectClose(unpadRows(y, columns), rmsNormReference(x, weight, 1e-5), { atol: 1e-9, rtol: 3e-6 });
  },
);

// What ε is worth: rows so small that it decides the result.
kernelTest(rmsNorm, { epsilon: [1e-5, 1e-6, 0.1] }, async ({ run, random, epsilon }) => {
  const x = random.normal([3, 64], 1e-3);
  const weight = random.normal([64]);
  const options = { columns: 64, epsilon, subgroups: false };
  const { y } = await run(
    options,
    { rows: 3, positions: 3 },
    { state: stepState({ position: 0, rows: 3 }), x, weight },
    { y: unwritten(3 * 64) },
  );
  expectClose(y, rmsNormReference(x, weight, epsilon), { atol: 1e-9, rtol: 3e-6 });
});
