import { expect, test } from "vitest";
import { type GemvTuning, gemvTuning, matmulVector } from "../../src/kernels/matmul-vector";
import { WEIGHT_FORMATS } from "../../src/kernels/weight-defines";
import { matmulVectorReference } from "../reference/matmul-vector";
import { padRows, randomMatrix } from "../reference/random-matrix";
import { BATCH, rowOf } from "../support/batched-rows";
import { expectClose, expectNmse, expectSame } from "../support/expect-close";
import { kernelTest, unwritten } from "../support/kernel-test";
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
