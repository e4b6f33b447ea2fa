import { expect, test } from "vitest";
import { fitsBatch, type GemvTuning, gemvTuning, type MatmulVectorOptions, matmulVector } from "../../src/kernels/matmul-vector";
import { WEIGHT_FORMATS } from "../../src/kernels/weight-defines";
import { matmulVectorReference } from "../reference/matmul-vector";
import { padRows, randomMatrix } from "../reference/random-matrix";
import { BATCH, type BatchRow, rowOf } from "../support/batched-rows";
import { expectClose, expectNmse, expectSame } from "../support/expect-close";
import { kernelTest, type RunKernel, unwritten } from "../support/kernel-test";
import type { Random } from "../support/random";
import { batchState, stepState } from "../support/step-state";

const MAX_NMSE = 1e-11;
const STEP = { rows: 1, positions: 1 };
const ONE_ROW = stepState({ position: 0, rows: 1 });

// Every way to cut the work that gemvTuning may choose, and some that it does not.
const CUTS = {
  "a thread a row": { lanes: 1, rowsPerThread: 4, workgroupSize: 64, staged: false },
  "16 lanes": { lanes: 16, rowsPerThread: 4, workgroupSize: 128, staged: false },
  "16 lanes, staged": { lanes: 16, rowsPerThread: 4, workgroupSize: 128, staged: true },
  "32 lanes, staged": { lanes: 32, rowsPerThread: 2, workgroupSize: 128, staged: true },
  "64 lanes, staged": { lanes: 64, rowsPerThread: 1, workgroupSize: 256, staged: true },
} as const satisfies Record<string, GemvTuning>;
const cuts = Object.keys(CUTS) as (keyof typeof CUTS)[];

const plain = { bias: false, epilogue: "store", yOffset: 0, yStride: 0 } as const;

kernelTest(
  matmulVector,
  {
    format: WEIGHT_FORMATS,
    shape: [
      [1, 100],
      [3, 176],
      [7, 576],
      [65, 672],
      [1000, 100],
    ],
  },
  async ({ run, random, format, shape: [rows, columns] }) => {
    const { codes, scales, values } = randomMatrix(random, format, rows, columns);
    const x = random.withOutliers([columns]);
    const expected = matmulVectorReference({ x, w: values, columns, epilogue: "store" });
    const tuning = CUTS["a thread a row"];
    const tensors = { state: ONE_ROW, x: padRows(x, columns), codes, scales };
    const { y } = await run({ ...plain, format, rows, columns, subgroups: false, tuning }, STEP, tensors, { y: unwritten(rows) });
    expectNmse(y, expected, MAX_NMSE);
  },
);

kernelTest(
  matmulVector,
  { format: WEIGHT_FORMATS, subgroups: [false, true], cut: cuts.slice(1) },
  async ({ run, random, format, subgroups, cut }) => {
    const rows = 65;
    const columns = 672;
    const { codes, scales, values } = randomMatrix(random, format, rows, columns);
    const x = random.withOutliers([columns]);
    const expected = matmulVectorReference({ x, w: values, columns, epilogue: "store" });
    const tensors = { state: ONE_ROW, x: padRows(x, columns), codes, scales };
    const options = { ...plain, format, rows, columns, subgroups, tuning: CUTS[cut] };
    const { y } = await run(options, STEP, tensors, { y: unwritten(rows) });
    expectNmse(y, expected, MAX_NMSE);
  },
);

// 2,976 and 4,448 columns take two and three chunks of x, the last of them short.
kernelTest(
  matmulVector,
  {
    chunked: [
      { format: "f16", subgroups: true, cut: "16 lanes, staged", columns: 2976 },
      { format: "q4m", subgroups: true, cut: "64 lanes, staged", columns: 4448 },
      { format: "q4m", subgroups: false, cut: "64 lanes, staged", columns: 2976 },
    ],
  },
  async ({ run, random, chunked: { format, subgroups, cut, columns } }) => {
    const rows = 5;
    const { codes, scales, values } = randomMatrix(random, format, rows, columns);
    const x = random.normal([columns]); // an outlier would hide squares left out of the norm
    const weight = random.normal([columns]);
    const norm = { weight, epsilon: 1e-6 };
    const tensors = { state: ONE_ROW, x: padRows(x, columns), codes, scales, norm_weight: weight };
    const options = { ...plain, format, rows, columns, subgroups, normEpsilon: 1e-6, tuning: CUTS[cut] };
    const { y } = await run(options, STEP, tensors, { y: unwritten(rows) });
    expectNmse(y, matmulVectorReference({ x, w: values, columns, epilogue: "store", norm }), MAX_NMSE);
  },
);

kernelTest(
  matmulVector,
  {
    epilogue: ["store", "add", "silu-gated", "gelu", "gelu-tanh"],
    fused: ["bias", "norm", "bias and norm"],
    cut: ["a thread a row", "32 lanes, staged"],
  },
  async ({ run, random, epilogue, fused, cut }) => {
    const rows = 70;
    const columns = 100;
    const { codes, scales, values } = randomMatrix(random, "q4", rows, columns);
    const x = random.withOutliers([columns]);
    const bias = fused.includes("bias") ? random.normal([rows]) : undefined;
    const weight = random.normal([columns]);
    const norm = fused.includes("norm") ? { weight, epsilon: 1e-5 } : undefined;
    const residual = random.normal([rows], 10);
    const outputs = epilogue === "silu-gated" ? rows / 2 : rows;
    const y = epilogue === "add" ? residual : unwritten(outputs);
    const options = {
      ...({
        format: "q4",
        rows,
        columns,
        bias: bias !== undefined,
        epilogue,
        yOffset: 0,
        yStride: 0,
        subgroups: true,
        tuning: CUTS[cut],
      } as const),
      ...(norm ? { normEpsilon: norm.epsilon } : {}),
    };
    const tensors = { state: ONE_ROW, x: padRows(x, columns), codes, scales, norm_weight: weight, ...(bias ? { bias } : {}) };
    const result = await run(options, STEP, tensors, { y });
    const inputs = { x, w: values, columns, epilogue, residual, ...(bias ? { bias } : {}), ...(norm ? { norm } : {}) };
    expectNmse(result.y, matmulVectorReference(inputs), MAX_NMSE);
  },
);

// With one row a thread, gate and up are summed by two teams.
kernelTest(matmulVector, { subgroups: [false, true] }, async ({ run, random, subgroups }) => {
  const rows = 70;
  const columns = 100;
  const { codes, scales, values } = randomMatrix(random, "q4m", rows, columns);
  const x = random.withOutliers([columns]);
  const weight = random.normal([columns]);
  const tuning = CUTS["64 lanes, staged"];
  const options = {
    format: "q4m",
    rows,
    columns,
    normEpsilon: 1e-5,
    bias: false,
    epilogue: "silu-gated",
    yOffset: 0,
    yStride: 0,
    subgroups,
    tuning,
  } as const;
  const tensors = { state: ONE_ROW, x: padRows(x, columns), codes, scales, norm_weight: weight };
  const { y } = await run(options, STEP, tensors, { y: unwritten(rows / 2) });
  const norm = { weight, epsilon: 1e-5 };
  expectNmse(y, matmulVectorReference({ x, w: values, columns, epilogue: "silu-gated", norm }), MAX_NMSE);
});

// A row of the matrix is one number here, so that the activation is all there is to err.
kernelTest(matmulVector, { epilogue: ["gelu", "gelu-tanh", "silu-gated"] }, async ({ run, epilogue }) => {
  const rows = 4002;
  const values = Float32Array.from({ length: rows }, (_, i) => (i - rows / 2) * 0.01);
  const w = padRows(values, 1);
  const x = new Float32Array(32).fill(0).with(0, 1);
  const options = {
    format: "f32",
    rows,
    columns: 1,
    bias: false,
    epilogue,
    yOffset: 0,
    yStride: 0,
    subgroups: false,
    tuning: CUTS["a thread a row"],
  } as const;
  const y = unwritten(epilogue === "silu-gated" ? rows / 2 : rows);
  const result = await run(options, STEP, { state: ONE_ROW, x, codes: w }, { y });
  // A product of two numbers of up to 20 is a product of two in f32; the others are held to 1e-6 at any size.
  const tolerance = epilogue === "silu-gated" ? { atol: 1e-6, rtol: 1e-6 } : { atol: 1e-6, rtol: 0 };
  expectClose(result.y, matmulVectorReference({ x: [1], w: values, columns: 1, epilogue }), tolerance);
});

// What the step's state says.
kernelTest(
  matmulVector,
  { cut: ["a thread a row", "32 lanes, staged"], what: ["last row of three", "stopped", "output in the middle"] },
  async ({ run, random, cut, what }) => {
    const rows = 20;
    const columns = 64;
    const { codes, scales, values } = randomMatrix(random, "q8", rows, columns);
    const x = random.normal([3, columns]);
    const rowCount = what === "last row of three" ? 3 : 1;
    const state = stepState({ position: 5, rows: rowCount, stopped: what === "stopped" ? 1 : 0 });
    const yOffset = what === "output in the middle" ? 9 : 0;
    const y = new Float32Array(rows + 18).fill(-7);
    const options = { ...plain, format: "q8", rows, columns, yOffset, subgroups: false, lastRows: true, tuning: CUTS[cut] } as const;
    const result = await run(options, { rows: 1, positions: 6 }, { state, x, codes, scales }, { y });
    const expected = new Float64Array(y);
    const used = x.subarray(0, rowCount * columns);
    if (what !== "stopped") expected.set(matmulVectorReference({ x: used, w: values, columns, epilogue: "store" }), yOffset);
    expectClose(result.y, expected, { atol: 1e-5, rtol: 1e-5 });
  },
);

kernelTest(
  matmulVector,
  { everyRow: ["store", "add", "silu-gated"], cut: ["a thread a row", "32 lanes, staged"] },
  async ({ run, random, everyRow: epilogue, cut }) => {
    const stepRows = 3;
    const rows = 70;
    const columns = 96;
    const { codes, scales, values } = randomMatrix(random, "q4", rows, columns);
    const x = random.normal([stepRows, columns]);
    const norm = { weight: random.normal([columns]), epsilon: 1e-5 };
    const outputs = epilogue === "silu-gated" ? rows / 2 : rows;
    const yOffset = 5;
    const yStride = outputs + 12;
    const y = random.normal([stepRows, yStride], 10); // what is not written stays as it is
    const expected = Float64Array.from(y);
    for (let row = 0; row < stepRows; row++) {
      const start = row * yStride + yOffset;
      const inputs = { x: x.subarray(row * columns, (row + 1) * columns), w: values, columns, epilogue, norm };
      expected.set(matmulVectorReference({ ...inputs, residual: y.slice(start, start + outputs) }), start);
    }
    const options = { ...plain, format: "q4", rows, columns, normEpsilon: 1e-5, epilogue, yOffset, yStride } as const;
    const result = await run(
      { ...options, subgroups: true, tuning: CUTS[cut] },
      { rows: stepRows, positions: stepRows },
      { state: stepState({ position: 0, rows: stepRows }), x, codes, scales, norm_weight: norm.weight },
      { y },
    );
    expectNmse(result.y, expected, MAX_NMSE);
  },
);

// More workgroups than one dimension of a dispatch may have.
kernelTest(matmulVector, { rows: [65_535 * 4 + 3] }, async ({ run, random, rows }) => {
  const columns = 32;
  const { codes, scales, values } = randomMatrix(random, "q8", rows, columns);
  const x = random.normal([columns]);
  const tuning = { lanes: 1, rowsPerThread: 1, workgroupSize: 4, staged: false };
  const options = { ...plain, format: "q8", rows, columns, subgroups: false, tuning } as const;
  expect(matmulVector.workgroups(options, STEP)[2]).toBe(2);
  const { y } = await run(options, STEP, { state: ONE_ROW, x, codes, scales }, { y: unwritten(rows) });
  expectNmse(y, matmulVectorReference({ x, w: values, columns, epilogue: "store" }), MAX_NMSE);
});

test("a head or embedding of any size stays within a dispatch's dimensions", () => {
  for (const format of WEIGHT_FORMATS) {
    for (const rows of [1, 151_936, 262_144]) {
      for (const columns of [32, 576, 8960]) {
        const options = {
          ...plain,
          format,
          rows,
          columns,
          subgroups: true,
          tuning: gemvTuning(format, rows, columns, { software: false }),
        };
        const { lanes, rowsPerThread, workgroupSize } = options.tuning;
        const [x, y, z] = matmulVector.workgroups(options, STEP);
        expect(Math.max(x, y, z)).toBeLessThanOrEqual(65_535);
        expect(x * y * z * (workgroupSize / lanes) * rowsPerThread).toBeGreaterThanOrEqual(rows);
      }
    }
  }
});

// Sequences that decode together, and the head over those that are sampled: a row gives, bit for bit, what it gives alone; a stopped one, and
// one past the step's, nothing.
kernelTest(
  matmulVector,
  { batch: cuts, lastRows: [false, true], subgroups: [false, true] },
  async ({ run, random, batch: cut, lastRows, subgroups }) => {
    const [rows, columns, yOffset] = [33, 100, 3];
    const { codes, scales } = randomMatrix(random, "q4m", rows, columns);
    const norm_weight = random.normal([columns]);
    const yStride = rows + 9;
    const x = padRows(random.withOutliers([BATCH.length, columns]), columns);
    const xStride = x.length / BATCH.length;
    const weights = { codes, scales, norm_weight };
    const options = { ...plain, format: "q4m", rows, columns, yOffset, yStride, normEpsilon: 1e-5, subgroups, tuning: CUTS[cut] } as const;
    const sampled = lastRows ? 4 : BATCH.length;
    const first = BATCH.length - sampled;
    const dispatched = lastRows ? sampled : sampled + 1;
    const y = random.normal([dispatched, yStride]);
    const shape = { rows: dispatched, positions: 251 };
    const result = await run({ ...options, lastRows }, shape, { state: batchState(BATCH), x, ...weights }, { y });
    const expected = y.slice();
    for (let i = 0; i < sampled; i++) {
      const each = BATCH[first + i];
      if (!each || each.stopped) continue;
      const alone = { state: batchState([each]), x: rowOf(x, first + i, xStride), ...weights };
      expected.set((await run(options, STEP, alone, { y: rowOf(y, i, yStride) })).y, i * yStride);
    }
    expectSame(result.y, expected);
  },
);

/** Rows of the step, the third of them stopped. */
function batchOf(rows: number): BatchRow[] {
  return Array.from({ length: rows }, (_, row) => ({ position: 7 * row, slot: rows - row, stopped: row === 2 ? 1 : 0 }));
}

type Run = RunKernel<(typeof matmulVector.bindings)[number], MatmulVectorOptions, typeof STEP>;

interface TogetherTest {
  readonly run: Run;
  readonly random: Random;
  readonly options: Omit<MatmulVectorOptions, "batch" | "bias" | "rows" | "yOffset" | "yStride" | "tuning">;
  readonly tuning: GemvTuning;
  readonly batch: number;
  readonly stepRows: number;
}

/** What a batch gives, and what its rows give one by one; what is not to be written is as it was. */
async function together({ run, random, options: given, tuning, batch, stepRows }: TogetherTest) {
  const [rows, yOffset] = [38, 3];
  const { format, columns, epilogue } = given;
  const { codes, scales } = randomMatrix(random, format, rows, columns);
  const tensors = { codes, scales, norm_weight: random.normal([columns]), bias: random.normal([rows]) };
  const yStride = (epilogue === "silu-gated" ? rows / 2 : rows) + 9;
  const x = padRows(random.withOutliers([stepRows, columns]), columns);
  const y = random.normal([stepRows, yStride]);
  const options = { ...given, rows, yOffset, yStride, bias: true, tuning };
  const step = batchOf(stepRows);
  const shape = { rows: stepRows, positions: 60 };
  // A thread of a batch has two rows at least: they change no sum.
  const batched = { ...options, batch, tuning: { ...tuning, rowsPerThread: Math.max(2, tuning.rowsPerThread) } };
  expect(fitsBatch(batched)).toBe(true);
  const found = (await run(batched, shape, { state: batchState(step), x, ...tensors }, { y })).y;
  const alone = y.slice();
  for (const [row, each] of step.entries()) {
    if (each.stopped) continue;
    const own = { state: batchState([each]), x: rowOf(x, row, x.length / stepRows), ...tensors };
    alone.set((await run(options, STEP, own, { y: rowOf(y, row, yStride) })).y, row * yStride);
  }
  return { found, alone };
}

// Each weight unpacked once for several rows. The one-row kernel, which the tests above hold to the reference, says what is right: bit for bit, but where
// four-bit weights are not staged, whose squares of x are summed in another order. 672 columns are more than one chunk of most, 2,100 of all; 64 lanes have
// chunks of half a turn.
kernelTest(
  matmulVector,
  {
    together: [
      { format: "f32", cut: "16 lanes", batch: 4, columns: 672, subgroups: false },
      { format: "f16", cut: "a thread a row", batch: 8, columns: 672, subgroups: false },
      { format: "f16", cut: "16 lanes", batch: 8, columns: 672, subgroups: true },
      { format: "q8", cut: "16 lanes, staged", batch: 8, columns: 672, subgroups: true },
      { format: "q8", cut: "64 lanes, staged", batch: 2, columns: 2100, subgroups: false },
      { format: "q4", cut: "32 lanes, staged", batch: 2, columns: 2100, subgroups: false },
      { format: "q4", cut: "16 lanes, staged", batch: 4, columns: 672, subgroups: true },
      { format: "q4m", cut: "16 lanes, staged", batch: 4, columns: 2100, subgroups: true },
      { format: "q4m", cut: "64 lanes, staged", batch: 2, columns: 2100, subgroups: true },
      { format: "q4m", cut: "a thread a row", batch: 2, columns: 100, subgroups: false },
    ],
  },
  async ({ run, random, together: { format, cut, batch, columns, subgroups } }) => {
    const options = { format, columns, normEpsilon: 1e-5, epilogue: "store", subgroups } as const;
    const { found, alone } = await together({ run, random, options, tuning: CUTS[cut], batch, stepRows: 5 });
    if (CUTS[cut].staged || !format.startsWith("q4")) expectSame(found, alone);
    else expectClose(found, alone, { atol: 1e-5, rtol: 1e-5 });
  },
);

kernelTest(
  matmulVector,
  { together: ["q8"], batch: [2, 4, 8], stepRows: [1, 2, 3, 4, 5, 6, 7, 8] },
  async ({ run, random, batch, stepRows }) => {
    const options = { format: "q8", columns: 100, epilogue: "add", subgroups: false } as const;
    const { found, alone } = await together({ run, random, options, tuning: CUTS["32 lanes, staged"], batch, stepRows });
    expectSame(found, alone);
  },
);

kernelTest(
  matmulVector,
  { together: ["q4m"], epilogue: ["silu-gated", "gelu", "add"], norm: [false, true] },
  async ({ run, random, epilogue, norm }) => {
    const options = { format: "q4m", columns: 100, epilogue, subgroups: false, ...(norm && { normEpsilon: 1e-5 }) } as const;
    const { found, alone } = await together({ run, random, options, tuning: CUTS["64 lanes, staged"], batch: 2, stepRows: 4 });
    expectSame(found, alone);
  },
);
