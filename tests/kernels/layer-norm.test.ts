import { expect } from "vitest";
import { layerNorm } from "../../src/kernels/layer-norm";
import { layerNormReference } from "../reference/layer-norm";
import { padRows, unpadRows } from "../reference/random-matrix";
import { expectClose } from "../support/expect-close";
import { kernelTest, unwritten } from "../support/kernel-test";
import { stepState } from "../support/step-state";

const DATA = {
  outliers: 0,
  // E[x²] − mean² has no digit left of the variance here.
  "large mean": 3000,
} as const;

kernelTest(
  layerNorm,
  { subgroups: [false, true], data: Object.keys(DATA) as (keyof typeof DATA)[], rows: [1, 7, 65], columns: [4, 100, 576, 2052] },
  async ({ run, random, subgroups, data, rows, columns }) => {
    const mean = DATA[data];
    const x = (mean === 0 ? random.withOutliers([rows, columns]) : random.normal([rows, columns])).map((value) => value + mean);
    if (rows > 1) x.fill(mean, 0, columns); // a row without variance: ε keeps it finite
    const weight = random.normal([columns]);
    const bias = random.normal([columns]);
    const options = { columns, epsilon: 1e-5, subgroups };
    const tensors = { state: stepState({ position: 0, rows }), x: padRows(x, columns), weight, bias };
    const { y } = await run(options, { rows: rows + 1, positions: rows }, tensors, { y: padRows(unwritten(rows * columns), columns) });
    expectClose(unpadRows(y, columns), layerNormReference(x, weight, bias, 1e-5), { atol: 1e-5, rtol: 1e-5 });
  },
);

// Before the head: as many of the last rows as are sampled, each in its place.
kernelTest(layerNorm, { subgroups: [false, true], lastRows: [1, 3, 7] }, async ({ run, random, subgroups, lastRows: count }) => {
  const [rows, columns] = [7, 100];
  const x = random.normal([rows, columns]);
  const [weight, bias] = [random.normal([columns]), random.normal([columns])];
  const tensors = { state: stepState({ position: 4, rows }), x: padRows(x, columns), weight, bias };
  const options = { columns, epsilon: 1e-5, subgroups, lastRows: true };
  const y = padRows(unwritten(rows * columns), columns);
  const result = unpadRows((await run(options, { rows: count, positions: 11 }, tensors, { y })).y, columns);
  const first = (rows - count) * columns;
  expectClose(result.subarray(first), layerNormReference(x, weight, bias, 1e-5).subarray(first), { atol: 1e-5, rtol: 1e-5 });
  expect(result.subarray(0, first).every(Number.isNaN), "rows before the last were written").toBe(true);
});
