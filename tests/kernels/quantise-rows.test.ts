import { expect } from "vitest";
import { quantiseRows } from "../../src/kernels/quantise-rows";
import { paddedColumns } from "../../src/weight-format";
import { quantiseRowsReference, rowsInEightBits } from "../reference/quantise-rows";
import { padRows } from "../reference/random-matrix";
import { expectClose, expectSame } from "../support/expect-close";
import { kernelTest, type RunKernel, unwritten } from "../support/kernel-test";
import { stepState } from "../support/step-state";

type Run = RunKernel<(typeof quantiseRows.bindings)[number], { columns: number }, { rows: number; positions: number }>;

/** The kernel's codes and scales of padded rows, the sums held against its own codes. */
async function quantise(run: Run, x: Float32Array<ArrayBuffer>, columns: number) {
  const rows = x.length / paddedColumns(columns);
  const outputs = { x_codes: new Uint32Array(x.length / 4).fill(0x55555555), x_scales: unwritten(x.length / 16) };
  const tensors = { state: stepState({ position: 0, rows }), x };
  const { x_codes, x_scales } = await run({ columns }, { rows: rows + 1, positions: rows }, tensors, outputs);
  const codes = new Int8Array(x_codes.buffer, x_codes.byteOffset, x_codes.byteLength);
  const scales = x_scales.filter((_, i) => i % 2 === 0);
  const sums = x_scales.filter((_, i) => i % 2 === 1);
  const sumOf = (group: number) => codes.subarray(group * 32, group * 32 + 32).reduce((sum, code) => sum + code, 0);
  expectClose(
    sums,
    scales.map((scale, group) => scale * sumOf(group)),
    { atol: 0, rtol: 1e-6 },
  );
  return { codes, scales };
}

const scalesOf = ({ scales }: ReturnType<typeof quantiseRowsReference>) => scales.filter((_, i) => i % 2 === 0);

kernelTest(quantiseRows, { rows: [1, 7, 65], columns: [4, 100, 576, 2080] }, async ({ run, random, rows, columns }) => {
  const values = random.withOutliers([rows, columns]);
  if (rows > 1) values.fill(0, 0, columns); // a row of zeros: none of its scales divides
  const x = padRows(values, columns);
  const { codes, scales } = await quantise(run, x, columns);
  const expected = scalesOf(quantiseRowsReference(x));
  expectClose(scales, expected, { atol: 0, rtol: 1e-6 });
  // A value in the middle between two codes may become either.
  const errors = Float64Array.from(codes, (code, i) => Math.abs(code - (x[i] ?? Number.NaN) / (expected[Math.floor(i / 32)] || 1)));
  expect(errors.findIndex((error) => !(error < 0.5001))).toBe(-1);
});

kernelTest(quantiseRows, { columns: [32, 672] }, async ({ run, random, columns }) => {
  const x = rowsInEightBits(random, 5, columns);
  const { codes, scales } = await quantise(run, x, columns);
  const expected = quantiseRowsReference(x);
  expectSame(codes, expected.codes);
  expectClose(scales, scalesOf(expected), { atol: 0, rtol: 1e-6 });
});
