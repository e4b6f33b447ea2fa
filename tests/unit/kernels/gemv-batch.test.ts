// How many rows of a step a workgroup computes: only what a device of the smallest limits has room for, and never what leaves it idle.
import { expect, test } from "vitest";
import { type BatchableProduct, gemvBatch } from "../../../src/kernels/gemv-batch";
import { fitsBatch, gemvTuning, matmulVector } from "../../../src/kernels/matmul-vector";
import { WEIGHT_FORMATS } from "../../../src/kernels/weight-defines";

const products: BatchableProduct[] = WEIGHT_FORMATS.flatMap((format) =>
  [64, 576, 3072, 9728, 151_936].flatMap((rows) =>
    [96, 576, 896, 4864, 8960].flatMap((columns) =>
      [false, true].map((subgroups) => ({
        ...({ format, rows, columns, normEpsilon: 1e-5, bias: false, epilogue: "store", yOffset: 0, yStride: rows, subgroups } as const),
        tuning: gemvTuning(format, rows, columns, { software: false }),
      })),
    ),
  ),
);

test("a single row is never a batch", () => {
  for (const product of products) expect(gemvBatch(product, 1)).toBeNull();
});

test("every batch fits, keeps what orders the sums, and is no larger than the step needs", () => {
  for (const product of products) {
    for (const stepRows of [2, 3, 4, 5, 8]) {
      const chosen = gemvBatch(product, stepRows);
      if (!chosen) continue;
      const { batch, tuning } = chosen;
      expect(batch).toBeLessThan(2 * stepRows);
      expect(fitsBatch({ ...product, ...chosen })).toBe(true);
      expect({ ...tuning, rowsPerThread: 0 }).toEqual({ ...product.tuning, rowsPerThread: 0 });
      const [x, y, z] = matmulVector.workgroups({ ...product, ...chosen }, { rows: stepRows, positions: stepRows });
      expect(x * batch).toBeGreaterThanOrEqual(stepRows);
      expect(x * y * z).toBeGreaterThanOrEqual(256);
    }
  }
});

test("a chunk of x in a batch is all of x, or gives a unit to every thread of a team or of a subgroup", () => {
  for (const product of products) {
    const chosen = gemvBatch(product, 8);
    if (!chosen?.tuning.staged) continue;
    const { CHUNK_VEC4S, GROUPS } = matmulVector.variant({ ...product, ...chosen }).defines;
    const units = { f32: 1, f16: 2, q8: 4, q4: 8, q4m: 8 }[product.format];
    expect(CHUNK_VEC4S === Number(GROUPS) * 8 || Number(CHUNK_VEC4S) % (units * Math.min(32, chosen.tuning.lanes)) === 0).toBe(true);
  }
});

test("a large head is computed for eight rows at once, and a product of few rows in halves at most", () => {
  const of = (format: "q8" | "q4m", rows: number, columns: number) =>
    gemvBatch(
      {
        ...products[0],
        format,
        rows,
        columns,
        subgroups: true,
        tuning: gemvTuning(format, rows, columns, { software: false }),
      } as BatchableProduct,
      8,
    )?.batch ?? 1;
  expect(of("q8", 151_936, 896)).toBe(8);
  expect(of("q4m", 151_936, 896)).toBe(4); // a turn of its lanes is 512 columns
  expect(of("q8", 64, 576)).toBe(1);
});
