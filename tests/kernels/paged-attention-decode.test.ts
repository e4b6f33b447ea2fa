import { expect } from "vitest";
import { type PagedAttentionDecodeOptions, pagedAttentionDecode } from "../../src/kernels/paged-attention-decode";
import type { StepShape } from "../../src/kernels/step-shape";
import { pagedAttentionDecodeReference } from "../reference/paged-attention-decode";
import { pagedAttentionPrefillReference } from "../reference/paged-attention-prefill";
import { pagedAttentionReduceReference } from "../reference/paged-attention-reduce";
import { DECODE_CASES, HEADS, MAX_NMSE, randomSequence, type Sequence, stepInput, stepTensors } from "../support/attention-sequence";
import { BATCH, type BatchRow, batchPools, rowOf } from "../support/batched-rows";
import { expectNmse, expectSame } from "../support/expect-close";
import { kernelTest, type RunKernel, unwritten } from "../support/kernel-test";
import type { Random } from "../support/random";
import { batchState } from "../support/step-state";

type Run = RunKernel<"state" | "qkv" | "table" | "keys" | "values" | "partial" | "y", PagedAttentionDecodeOptions, StepShape>;

interface Step {
  readonly context: number;
  readonly window: number | null;
  readonly direct: boolean;
  readonly split?: number;
  /** The context's upper bound that the dispatch is sized for. */
  readonly bound?: number;
}

/** Attention of the last of `context` positions: from `y`, or put together from `partial` on the CPU. */
async function attend(run: Run, random: Random, sequence: Sequence, { context, window, direct, split = 256, bound = context }: Step) {
  const { headCount, headDim } = sequence.layout;
  const tensors = stepTensors(random, sequence, context - 1, 1);
  const { qkvStride } = sequence;
  const options = { ...sequence.layout, window, direct, split, qkvStride, yStride: headCount * headDim };
  const shape = { rows: 1, positions: bound };
  if (direct) return (await run(options, shape, tensors, { y: unwritten(headCount * headDim) })).y;
  const record = headCount * (headDim + 2);
  const { partial } = await run(options, shape, tensors, { partial: unwritten(Math.ceil(bound / split) * record) });
  const first = window === null ? 0 : Math.floor(Math.max(0, context - window) / split);
  const end = Math.ceil(context / split);
  for (const untouched of [partial.subarray(0, first * record), partial.subarray(end * record)]) {
    expect(untouched.every(Number.isNaN), "a split that the query does not see was written").toBe(true);
  }
  return pagedAttentionReduceReference(partial.subarray(first * record, end * record), headCount, headDim);
}

function expected(sequence: Sequence, { context, window }: Step) {
  return pagedAttentionDecodeReference(stepInput(sequence, context - 1, 1, window));
}

kernelTest(pagedAttentionDecode, { case: DECODE_CASES }, async ({ run, random, case: { heads, kvFormat, direct } }) => {
  const layout = { ...HEADS[heads], kvFormat };
  const sequence = randomSequence(random, layout, 600);
  const { pageSize } = layout;
  for (const context of [1, pageSize - 1, pageSize, pageSize + 1, ...(direct ? [250, 256] : [257, 600])]) {
    const step = { context, window: null, direct };
    expectNmse(await attend(run, random, sequence, step), expected(sequence, step), MAX_NMSE.soft);
  }
});

kernelTest(
  pagedAttentionDecode,
  {
    case: [
      { window: null, split: 128 },
      { window: 1, split: 64 },
      { window: 16, split: 64 },
      { window: 16, split: 128 },
    ],
  },
  async ({ run, random, case: { window, split } }) => {
    const layout = { ...HEADS["9/3×64"], kvFormat: "f16", pageSize: 128 } as const;
    const sequence = randomSequence(random, layout, 600);
    for (const context of [1, 15, 16, 17, 64, 65, 73, 128, 135, 600]) {
      const step = { context, window, split, direct: false };
      expectNmse(await attend(run, random, sequence, step), expected(sequence, step), MAX_NMSE.soft);
    }
  },
);

const WINDOWS = [
  { window: 1, direct: true },
  { window: 16, direct: false },
  { window: 100, direct: true },
  { window: 100, direct: false },
];

kernelTest(pagedAttentionDecode, { case: WINDOWS }, async ({ run, random, case: { window, direct } }) => {
  const sequence = randomSequence(random, { ...HEADS["4/2×16"], kvFormat: "f32" }, 600);
  for (const context of [1, 16, 17, 101, 256, ...(direct ? [] : [257, 271, 272, 600])]) {
    const step = { context, window, direct };
    expectNmse(await attend(run, random, sequence, step), expected(sequence, step), MAX_NMSE.soft);
  }
});

kernelTest(pagedAttentionDecode, { scores: ["peaked", "lifted"], kvFormat: ["f32", "f16"] }, async ({ run, random, scores, kvFormat }) => {
  const sequence = randomSequence(random, { ...HEADS["9/3×64"], kvFormat }, 600, scores);
  for (const context of [17, 600]) {
    const step = { context, window: null, direct: false };
    expectNmse(await attend(run, random, sequence, step), expected(sequence, step), MAX_NMSE[scores]);
  }
});

kernelTest(pagedAttentionDecode, { invariant: ["the dispatch's bound", "page size and order"] }, async ({ run, random, invariant }) => {
  const layout = { ...HEADS["9/3×64"], kvFormat: "f32" } as const;
  const sequence = randomSequence(random, layout, 300);
  const step = { context: 300, window: null, direct: false };
  const before = await attend(run, random, sequence, step);
  if (invariant === "the dispatch's bound") expectSame(await attend(run, random, sequence, { ...step, bound: 2000 }), before);
  else
    for (const pageSize of [16, 128]) expectSame(await attend(run, random, { ...sequence, layout: { ...layout, pageSize } }, step), before);
});

// Rows that see one split, two, and the first of a third; y has room between rows.
kernelTest(pagedAttentionDecode, { rows: [2, 5], way: ["direct", "split", "window"] }, async ({ run, random, rows, way }) => {
  const sequence = randomSequence(random, { ...HEADS["14/2×64"], kvFormat: "f16" }, 140);
  const { qkvStride, layout } = sequence;
  const { headCount, headDim } = layout;
  const width = headCount * headDim;
  const window = way === "window" ? 16 : null;
  for (const position of way === "direct" ? [0, 40] : [0, 62, 125]) {
    const tensors = stepTensors(random, sequence, position, rows);
    const shape = { rows, positions: position + rows };
    const reference = pagedAttentionPrefillReference(stepInput(sequence, position, rows, window));
    const options = { ...layout, window, split: 64, qkvStride, yStride: width + 8 };
    if (way === "direct") {
      const { y } = await run({ ...options, direct: true }, shape, tensors, { y: new Float32Array(rows * (width + 8)).fill(-7) });
      for (let row = 0; row < rows; row++) {
        const start = row * (width + 8);
        expectNmse(y.subarray(start, start + width), reference.subarray(row * width, (row + 1) * width), MAX_NMSE.soft);
        expect([...y.subarray(start + width, start + width + 8)]).toEqual(Array(8).fill(-7));
      }
      continue;
    }
    const record = headCount * (headDim + 2);
    const { partial } = await run({ ...options, direct: false }, shape, tensors, {
      partial: unwritten(Math.ceil(shape.positions / 64) * rows * record),
    });
    for (let row = 0; row < rows; row++) {
      const last = position + row;
      const first = window === null ? 0 : Math.floor(Math.max(0, last + 1 - window) / 64);
      const splits = Array.from({ length: Math.floor(last / 64) + 1 - first }, (_, i) => first + i);
      const records = splits.flatMap((split) => [...partial.subarray((split * rows + row) * record, (split * rows + row + 1) * record)]);
      const combined = pagedAttentionReduceReference(records, headCount, headDim);
      expectNmse(combined, reference.subarray(row * width, (row + 1) * width), MAX_NMSE.soft);
    }
  }
});

// Sequences that decode together: a row gives, bit for bit, what it gives alone, and one that has ended gives nothing.
kernelTest(
  pagedAttentionDecode,
  { batch: ["9/3×64", "71/1×32", "4/1×80"], way: ["direct", "split", "window"] },
  async ({ run, random, batch, way }) => {
    const layout = { ...HEADS[batch], kvFormat: way === "split" ? "f16" : "f32" } as const;
    const { headCount, headDim } = layout;
    const sequences = BATCH.map(({ position }) => randomSequence(random, layout, position + 1));
    const { table, tableStride, keys, values } = batchPools(random, layout, BATCH, sequences);
    const qkvStride = sequences[0]?.qkvStride ?? 0;
    const qkv = new Float32Array(BATCH.length * qkvStride);
    sequences.forEach((sequence, row) => {
      qkv.set(rowOf(sequence.qkv, sequence.positions - 1, qkvStride), row * qkvStride);
    });
    const [direct, split, window] = [way === "direct", way === "direct" ? 256 : 64, way === "window" ? 70 : null];
    const yStride = headCount * headDim + 8;
    const options = { ...layout, tableStride, window, split, direct, qkvStride, yStride };
    const record = headCount * (headDim + 2);
    const splits = direct ? 1 : Math.ceil(251 / split);
    const attend = async (rows: readonly BatchRow[], queries: typeof qkv) => {
      const shape = { rows: rows.length + 1, positions: 251 }; // a row more than there are is dispatched
      const tensors = { state: batchState(rows), qkv: queries, table, keys, values };
      if (direct) return (await run(options, shape, tensors, { y: unwritten(rows.length * yStride) })).y;
      const { partial } = await run(options, shape, tensors, { partial: unwritten(splits * rows.length * record) });
      return partial;
    };
    const together = await attend(BATCH, qkv);
    for (const [row, each] of BATCH.entries()) {
      const ofRow = (from: Float32Array<ArrayBuffer>, rows: number, at: number) =>
        direct
          ? rowOf(from, at, yStride)
          : Float32Array.from(
              { length: splits * record },
              (_, i) => from[(Math.floor(i / record) * rows + at) * record + (i % record)] ?? 0,
            );
      const found = ofRow(together, BATCH.length, row);
      if (each.stopped) expect(found.every(Number.isNaN), "a stopped row was computed").toBe(true);
      else expectSame(found, ofRow(await attend([each], rowOf(qkv, row, qkvStride)), 1, 0));
    }
    const [first, sequence] = [BATCH[4], sequences[4]];
    if (!first || !sequence || !direct) return;
    const expectedRow = pagedAttentionDecodeReference(stepInput(sequence, first.position, 1, window));
    expectNmse(rowOf(together, 4, yStride).subarray(0, headCount * headDim), expectedRow, MAX_NMSE.soft);
  },
);
