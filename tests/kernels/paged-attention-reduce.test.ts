import { pagedAttentionDecode } from "../../src/kernels/paged-attention-decode";
import { pagedAttentionReduce } from "../../src/kernels/paged-attention-reduce";
import { pagedAttentionReduceReference } from "../reference/paged-attention-reduce";
import { HEADS, randomSequence, stepTensors } from "../support/attention-sequence";
import { BATCH } from "../support/batched-rows";
import { expectNmse, expectSame } from "../support/expect-close";
import { kernelTest, runKernel, unwritten } from "../support/kernel-test";
import type { Random } from "../support/random";
import { batchState, stepState } from "../support/step-state";

const MAX_NMSE = 1e-12;
const STEP = { rows: 1, positions: 1 };

/** Records of some splits of each head: sums, maxima that lie far apart, totals. */
function randomRecords(random: Random, splits: number, headCount: number, headDim: number): Float32Array<ArrayBuffer> {
  const size = headDim + 2;
  const records = random.normal([splits * headCount * size]);
  for (let at = headDim; at < records.length; at += size) {
    records[at] = (random.next() - 0.5) * 40 + 1e4;
    records[at + 1] = 1 + random.next() * 255;
  }
  return records;
}

kernelTest(pagedAttentionReduce, { headDim: [16, 64, 80, 128, 256], window: [null, 100] }, async ({ run, random, headDim, window }) => {
  const split = 64;
  const headCount = 7;
  // The last: the window begins where a split does.
  for (const position of [0, split - 1, split, 3 * split + 5, 40 * split, 2 * split + 99]) {
    const end = Math.floor(position / split) + 1;
    const first = window === null ? 0 : Math.floor(Math.max(0, position + 1 - window) / split);
    const record = headCount * (headDim + 2);
    const partial = unwritten((end + 2) * record); // NaN where no split was computed
    const computed = randomRecords(random, end - first, headCount, headDim);
    partial.set(computed, first * record);
    const state = stepState({ position, rows: 1 });
    const { y } = await run(
      { headCount, headDim, window, split, yStride: headCount * headDim },
      STEP,
      { state, partial },
      { y: unwritten(headCount * headDim) },
    );
    expectNmse(y, pagedAttentionReduceReference(computed, headCount, headDim), MAX_NMSE);
  }
});

kernelTest(pagedAttentionReduce, { oneSplit: ["is bit for bit what direct attention gives"] }, async ({ run, random, gpu }) => {
  const layout = { ...HEADS["9/3×64"], kvFormat: "f32" } as const;
  const { headCount, headDim } = layout;
  for (const context of [1, 33, 256]) {
    const sequence = randomSequence(random, layout, context);
    const tensors = stepTensors(random, sequence, context - 1, 1);
    const shape = { rows: 1, positions: context };
    const yStride = headCount * headDim;
    const options = { ...layout, window: null, qkvStride: sequence.qkvStride, yStride };
    const attend = <Output extends { y: Float32Array<ArrayBuffer> } | { partial: Float32Array<ArrayBuffer> }>(
      direct: boolean,
      output: Output,
    ) => runKernel(gpu, pagedAttentionDecode, { ...options, direct }, shape, tensors, output);
    const direct = await attend(true, { y: unwritten(headCount * headDim) });
    const { partial } = await attend(false, { partial: unwritten(headCount * (headDim + 2)) });
    const { y } = await run(
      { headCount, headDim, window: null, yStride },
      shape,
      { state: tensors.state, partial },
      { y: unwritten(headCount * headDim) },
    );
    expectSame(y, direct.y);
  }
});

// The second row is the first to see another split; splits of rows that do not see them are not there to be read.
kernelTest(pagedAttentionReduce, { rows: ["each with the splits that it sees"] }, async ({ run, random }) => {
  const { split, headCount, headDim, rows, position } = { split: 64, headCount: 3, headDim: 80, rows: 4, position: 127 };
  const record = headCount * (headDim + 2);
  const yStride = headCount * headDim + 8;
  const partial = unwritten(3 * rows * record);
  const expected = new Float64Array(rows * yStride).fill(-7);
  for (let row = 0; row < rows; row++) {
    const splits = Math.floor((position + row) / split) + 1;
    const computed = randomRecords(random, splits, headCount, headDim);
    for (let i = 0; i < splits; i++) partial.set(computed.subarray(i * record, (i + 1) * record), (i * rows + row) * record);
    expected.set(pagedAttentionReduceReference(computed, headCount, headDim), row * yStride);
  }
  const state = stepState({ position, rows });
  const options = { headCount, headDim, window: null, split, yStride };
  const y = new Float32Array(rows * yStride).fill(-7);
  const result = await run(options, { rows, positions: position + rows }, { state, partial }, { y });
  expectNmse(result.y, expected, MAX_NMSE);
});

kernelTest(pagedAttentionReduce, { counted: ["as many splits as the buffer says"] }, async ({ run, random }) => {
  const { splits, headCount, headDim, rows } = { splits: 5, headCount: 3, headDim: 80, rows: 4 };
  const record = headCount * (headDim + 2);
  const partial = unwritten(4 + (splits + 1) * rows * record);
  partial[0] = splits;
  const expected = new Float64Array(rows * headCount * headDim);
  for (let row = 0; row < rows; row++) {
    const computed = randomRecords(random, splits, headCount, headDim);
    for (let i = 0; i < splits; i++) partial.set(computed.subarray(i * record, (i + 1) * record), 4 + (i * rows + row) * record);
    expected.set(pagedAttentionReduceReference(computed, headCount, headDim), row * headCount * headDim);
  }
  const state = stepState({ position: 10, rows });
  const options = { headCount, headDim, window: null, yStride: headCount * headDim, isCounted: true };
  const { y } = await run(options, { rows, positions: 14 }, { state, partial }, { y: unwritten(expected.length) });
  expectNmse(y, expected, MAX_NMSE);
});

// Sequences that decode together: each with the splits of its own context, whatever the others have.
kernelTest(pagedAttentionReduce, { batch: [null, 70], headDim: [64, 80] }, async ({ run, random, batch: window, headDim }) => {
  const { split, headCount } = { split: 64, headCount: 3 };
  const record = headCount * (headDim + 2);
  const yStride = headCount * headDim + 8;
  const partial = unwritten(4 * BATCH.length * record);
  const expected = new Float64Array(BATCH.length * yStride).fill(-7);
  for (const [row, { position, stopped }] of BATCH.entries()) {
    const first = window === null ? 0 : Math.floor(Math.max(0, position + 1 - window) / split);
    const end = Math.floor(position / split) + 1;
    const computed = randomRecords(random, end - first, headCount, headDim);
    for (let i = first; i < end; i++) {
      partial.set(computed.subarray((i - first) * record, (i - first + 1) * record), (i * BATCH.length + row) * record);
    }
    if (!stopped) expected.set(pagedAttentionReduceReference(computed, headCount, headDim), row * yStride);
  }
  const options = { headCount, headDim, window, split, yStride };
  const shape = { rows: BATCH.length + 1, positions: 251 };
  const y = new Float32Array(BATCH.length * yStride).fill(-7);
  const result = await run(options, shape, { state: batchState(BATCH), partial }, { y });
  expectNmse(result.y, expected, MAX_NMSE);
});
