import { expect, test } from "vitest";
import { fitLine } from "../../../src/steps/chunk-times";

const sample = (rows: number, ms: number) => ({ rows, ms });

test("fixed time and the rows' time are told apart", () => {
  const times = fitLine([64, 128, 256].map((rows) => sample(rows, 40 + 0.5 * rows)));
  expect(times?.fixedMs).toBeCloseTo(40);
  expect(times?.msPerRow).toBeCloseTo(0.5);
});

test("chunks of about one size tell nothing of fixed time", () => {
  expect(fitLine([sample(100, 80)])).toBeNull();
  expect(fitLine([sample(100, 80), sample(120, 90), sample(90, 300)])).toBeNull();
});

test("one chunk in four may be as slow as it likes", () => {
  const samples = [sample(128, 5000), ...[33, 66, 132, 200, 264, 300].map((rows) => sample(rows, 20 + rows)), sample(33, 900)];
  const times = fitLine(samples);
  expect(times?.fixedMs).toBeCloseTo(20);
  expect(times?.msPerRow).toBeCloseTo(1);
});

test("neither part of the time is negative", () => {
  expect(fitLine([sample(33, 200), sample(66, 100)])).toEqual({ fixedMs: 150, msPerRow: 0 });
  const steep = fitLine([sample(33, 10), sample(66, 1000)]);
  expect(steep?.fixedMs).toBe(0);
  expect(steep?.msPerRow).toBeCloseTo(1010 / 99);
});
