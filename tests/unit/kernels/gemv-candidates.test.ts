// GEMV parameters that are benchmarked on any device: the kernel must accept all of them, and they must fit the smallest device.
import { expect, test } from "vitest";
import type { Epilogue } from "../../../src/kernels/epilogue";
import { type GemvProduct, gemvCandidates, tuningKey } from "../../../src/kernels/gemv-candidates";
import { gemvTuning, matmulVector } from "../../../src/kernels/matmul-vector";
import { WEIGHT_FORMATS } from "../../../src/kernels/weight-defines";

const HARDWARE = { software: false };
const EPILOGUES: readonly Epilogue[] = ["store", "add", "silu-gated", "gelu", "gelu-tanh"];
const products: GemvProduct[] = WEIGHT_FORMATS.flatMap((format) =>
  EPILOGUES.flatMap((epilogue) =>
    [576, 3072, 151_936].flatMap((rows) =>
      [96, 576, 8960].map((columns) => ({ format, rows, columns, epilogue, norm: true, bias: true, subgroups: false })),
    ),
  ),
);
const withNear = products.map((product) => ({ product, candidates: gemvCandidates(product, HARDWARE) }));

test("the default comes first, with one to five others, none twice", () => {
  for (const { product, candidates } of withNear) {
    expect(candidates[0]).toEqual(gemvTuning(product.format, product.rows, product.columns, HARDWARE));
    expect(candidates.length).toBeGreaterThan(1);
    expect(candidates.length).toBeLessThanOrEqual(6);
    expect(new Set(candidates.map(tuningKey)).size).toBe(candidates.length);
  }
});

test("every candidate is one that the kernel takes, and computes all rows within a dispatch's dimensions", () => {
  for (const { product, candidates } of withNear) {
    for (const tuning of candidates) {
      const options = { ...product, normEpsilon: 1e-5, yOffset: 0, yStride: 0, tuning };
      expect(() => matmulVector.variant(options)).not.toThrow();
      const [x, y] = matmulVector.workgroups(options, { rows: 1, positions: 1 });
      expect(Math.max(x, y)).toBeLessThanOrEqual(65_535);
      expect(x * y * (tuning.workgroupSize / tuning.lanes) * tuning.rowsPerThread).toBeGreaterThanOrEqual(product.rows);
    }
  }
});

test("every candidate fits the workgroup of WebGPU's default limits, and has a thread for each of its outputs", () => {
  for (const { candidates } of withNear) {
    for (const { lanes, rowsPerThread, workgroupSize, staged } of candidates) {
      const partials = workgroupSize * (rowsPerThread + 1) * 4; // without subgroups, and with the sum of squares
      const x = staged ? 8 * 65 * 16 + workgroupSize * 4 : 0;
      expect(partials + x).toBeLessThanOrEqual(16_384);
      expect(workgroupSize).toBeLessThanOrEqual(256);
      expect((workgroupSize / lanes) * rowsPerThread).toBeLessThanOrEqual(workgroupSize);
      expect(64 % lanes).toBe(0); // whole turns of a chunk
    }
  }
});

test("an adapter in software has none", () => {
  for (const product of products) expect(gemvCandidates(product, { software: true })).toEqual([]);
});
