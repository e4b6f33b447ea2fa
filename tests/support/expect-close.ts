// Comparisons of numbers that also record the worst error seen, for the report at the end of the run.
import { expect, TestRunner } from "vitest";
import type { Measurement } from "./baseline";

declare module "vitest" {
  /** What a GPU test tells the reporter; it reaches Node from the browser. */
  interface TaskMeta {
    /** The kernel variant under test, under which errors are recorded. */
    subject?: string;
    errors?: Measurement[];
  }
}

export interface Tolerance {
  /** Absolute, at expected values near 0. */
  readonly atol: number;
  /** Relative to the expected value. */
  readonly rtol: number;
}

/**
 * Fails where |actual − expected| > atol + rtol · |expected|, or where either is not finite and they differ.
 * Records the worst |actual − expected| / (|expected| + root mean square of expected), a figure free of scale.
 */
export function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, { atol, rtol }: Tolerance): void {
  expectSameLength(actual, expected);
  const scale = rootMeanSquare(expected);
  let worst = 0;
  let excess = { index: -1, ratio: 1 };
  let failures = 0;
  for (let i = 0; i < expected.length; i++) {
    const want = expected[i] ?? Number.NaN;
    const error = difference(actual[i] ?? Number.NaN, want);
    const ratio = error === 0 ? 0 : error / (atol + rtol * Math.abs(want));
    if (ratio > 1) failures++;
    if (ratio > excess.ratio) excess = { index: i, ratio };
    if (error > 0) worst = Math.max(worst, error / (Math.abs(want) + scale));
  }
  recordError(worst);
  if (failures === 0) return;
  const { index, ratio } = excess;
  expect.fail(
    `${failures} of ${expected.length} values differ; worst at index ${index}: actual ${actual[index]}, expected ${expected[index]}, ` +
      `${ratio.toPrecision(3)} times what atol ${atol} and rtol ${rtol} allow (first values: actual ${first(actual)}, expected ${first(expected)})`,
  );
}

/** Fails where Σ(actual − expected)² / Σ expected² > `max`: for results whose single values may err, but not together. Recorded. */
export function expectNmse(actual: ArrayLike<number>, expected: ArrayLike<number>, max: number): void {
  expectSameLength(actual, expected);
  let squares = 0;
  let total = 0;
  let worst = { index: 0, error: -1 };
  for (let i = 0; i < expected.length; i++) {
    const want = expected[i] ?? Number.NaN;
    const error = difference(actual[i] ?? Number.NaN, want);
    squares += error ** 2;
    total += want ** 2;
    if (error > worst.error) worst = { index: i, error };
  }
  const nmse = squares === 0 ? 0 : squares / total;
  recordError(Math.sqrt(nmse));
  if (nmse <= max) return;
  expect.fail(
    `normalised mean square error ${nmse.toExponential(2)}, allowed ${max.toExponential(2)}; worst at index ${worst.index}: ` +
      `actual ${actual[worst.index]}, expected ${expected[worst.index]}`,
  );
}

/** Fails unless all values are the same: for ids, counts and bits. */
export function expectSame(actual: ArrayLike<number>, expected: ArrayLike<number>): void {
  expectSameLength(actual, expected);
  for (let i = 0; i < expected.length; i++) {
    if (!Object.is(actual[i], expected[i])) {
      expect.fail(
        `index ${i}: actual ${actual[i]}, expected ${expected[i]} (from there: actual ${first(actual, i)}, expected ${first(expected, i)})`,
      );
    }
  }
}

/**
 * Fails where |actual − expected| > `max` in a golden case, and records the worst under `golden/<name>`.
 * `name` says case and precision, as in "llama-gqa f32".
 */
export function expectGolden(name: string, actual: ArrayLike<number>, expected: ArrayLike<number>, max: number): void {
  expectSameLength(actual, expected);
  let worst = { index: 0, error: 0 };
  for (let i = 0; i < expected.length; i++) {
    const error = difference(actual[i] ?? Number.NaN, expected[i] ?? Number.NaN);
    if (error > worst.error) worst = { index: i, error };
  }
  recordError(worst.error, { subject: `golden/${name}`, limit: max });
  if (worst.error <= max) return;
  const { index, error } = worst;
  expect.fail(
    `${name}: index ${index}: actual ${actual[index]}, expected ${expected[index]}, apart by ${error.toExponential(2)}, allowed ${max}`,
  );
}

/** |a − b|, 0 where both are the same infinity, and infinite where a NaN is involved. */
function difference(a: number, b: number): number {
  if (a === b) return 0;
  const error = Math.abs(a - b);
  return Number.isNaN(error) ? Number.POSITIVE_INFINITY : error;
}

function recordError(worst: number, golden?: { readonly subject: string; readonly limit: number }): void {
  const test = TestRunner.getCurrentTest();
  const subject = golden?.subject ?? test?.meta.subject;
  if (!test || !subject) return;
  // The meta travels as JSON, which has no infinity.
  test.meta.errors = [...(test.meta.errors ?? []), { worst: Math.min(worst, Number.MAX_VALUE), subject, ...golden }];
}

function expectSameLength(actual: ArrayLike<number>, expected: ArrayLike<number>): void {
  if (actual.length !== expected.length) expect.fail(`${actual.length} values, expected ${expected.length}`);
}

function rootMeanSquare(values: ArrayLike<number>): number {
  let squares = 0;
  for (let i = 0; i < values.length; i++) squares += (values[i] ?? 0) ** 2;
  return Math.sqrt(squares / Math.max(1, values.length));
}

function first(values: ArrayLike<number>, from = 0): string {
  return `[${Array.from({ length: Math.min(4, values.length - from) }, (_, i) => values[from + i]).join(", ")} …]`;
}
