import { expect, test } from "vitest";
import { pagedAttentionPrefill, prefillPartialBytes, prefillSplits } from "../../src/kernels/paged-attention-prefill";
import type { StepShape } from "../../src/kernels/step-shape";
import { pagedAttentionPrefillReference } from "../reference/paged-attention-prefill";
import { pagedAttentionReduceReference } from "../reference/paged-attention-reduce";
import { HEAD_NAMES, HEADS, MAX_NMSE, randomSequence, type Sequence, stepInput, stepTensors } from "../support/attention-sequence";
import { expectNmse, expectSame } from "../support/expect-close";
import { kernelTest, type RunKernel, unwritten } from "../support/kernel-test";
import type { Random } from "../support/random";
import { stepState } from "../support/step-state";

const PADDING = 32; // floats behind a row of y; they must stay 0

type Run = RunKernel<
  "state" | "qkv" | "table" | "keys" | "values" | "partial" | "y",
  Parameters<typeof pagedAttentionPrefill.variant>[0],
  StepShape
>;

interface Chunk {
  readonly position: number;
  readonly rows: number;
  readonly window: number | null;
}

/** [rows, headCount · headDim + PADDING] */
async function attend(run: Run, random: Random, sequence: Sequence, { position, rows, window }: Chunk) {
  const { layout, qkvStride } = sequence;
  const yStride = layout.headCount * layout.headDim + PADDING;
  const tensors = stepTensors(random, sequence, position, rows);
  const options = { ...layout, window, qkvStride, yStride };
  return (await run(options, { rows, positions: position + rows }, tensors, { y: new Float32Array(rows * yStride) })).y;
}

function expected(sequence: Sequence, { position, rows, window }: Chunk): Float64Array {
  const width = sequence.layout.headCount * sequence.layout.headDim;
  const values = pagedAttentionPrefillReference(stepInput(sequence, position, rows, window));
  const padded = new Float64Array(rows * (width + PADDING));
  for (let row = 0; row < rows; row++) padded.set(values.subarray(row * width, (row + 1) * width), row * (width + PADDING));
  return padded;
}

// K/V's format decides how an element is read, whatever the heads: each layout has one of the two, and two layouts have both.
const LAYOUTS = HEAD_NAMES.flatMap((heads, index) => {
  const formats = index < 2 ? (["f32", "f16"] as const) : ([index % 2 === 0 ? "f32" : "f16"] as const);
  return formats.map((kvFormat) => ({ heads, kvFormat }));
});

kernelTest(pagedAttentionPrefill, { layout: LAYOUTS }, async ({ run, random, layout: { heads, kvFormat } }) => {
  const sequence = randomSequence(random, { ...HEADS[heads], kvFormat }, 122);
  for (const position of [0, 50]) {
    for (const rows of [1, 7, 16, 72]) {
      const chunk = { position, rows, window: null };
      expectNmse(await attend(run, random, sequence, chunk), expected(sequence, chunk), MAX_NMSE.soft);
    }
  }
});

kernelTest(
  pagedAttentionPrefill,
  {
    layout: [
      { heads: "4/2×16", kvFormat: "f32" },
      { heads: "9/3×64", kvFormat: "f16" },
    ],
    window: [1, 16],
  },
  async ({ run, random, layout: { heads, kvFormat }, window }) => {
    const sequence = randomSequence(random, { ...HEADS[heads], kvFormat }, 300);
    for (const [position, rows] of [
      [0, 1],
      [0, 16],
      [0, 40],
      [15, 7],
      [16, 1],
      [50, 72],
      [228, 72],
    ] as const) {
      const chunk = { position, rows, window };
      expectNmse(await attend(run, random, sequence, chunk), expected(sequence, chunk), MAX_NMSE.soft);
    }
  },
);

kernelTest(pagedAttentionPrefill, { scores: ["peaked", "lifted"], kvFormat: ["f32", "f16"] }, async ({ run, random, scores, kvFormat }) => {
  const sequence = randomSequence(random, { ...HEADS["9/3×64"], kvFormat }, 122, scores);
  const chunk = { position: 50, rows: 72, window: null };
  expectNmse(await attend(run, random, sequence, chunk), expected(sequence, chunk), MAX_NMSE[scores]);
});

kernelTest(
  pagedAttentionPrefill,
  { window: [null, 16], sameBits: ["however a prompt is cut", "whatever the pages"] },
  async ({ run, random, window, sameBits }) => {
    const layout = { ...HEADS["9/3×64"], kvFormat: "f32" } as const;
    const sequence = randomSequence(random, layout, 122);
    const whole = await attend(run, random, sequence, { position: 0, rows: 122, window });
    if (sameBits === "whatever the pages") {
      for (const pageSize of [16, 64]) {
        const repaged = { ...sequence, layout: { ...layout, pageSize } };
        expectSame(await attend(run, random, repaged, { position: 0, rows: 122, window }), whole);
      }
      return;
    }
    for (const [position, rows] of [
      [0, 1],
      [1, 7],
      [33, 16],
      [50, 72],
    ] as const) {
      const part = await attend(run, random, sequence, { position, rows, window });
      const stride = part.length / rows;
      expectSame(part, whole.subarray(position * stride, (position + rows) * stride));
    }
  },
);

// With a window, all but one or two splits of a row have no key for it, and say so.
kernelTest(
  pagedAttentionPrefill,
  {
    split: [
      { heads: "9/3×64", kvFormat: "f16" },
      { heads: "8/1×128", kvFormat: "f32" },
    ],
    window: [null, 40],
  },
  async ({ run, random, split: { heads, kvFormat }, window }) => {
    const sequence = randomSequence(random, { ...HEADS[heads], kvFormat }, 800);
    const { layout, qkvStride } = sequence;
    const { headCount, headDim } = layout;
    const width = headCount * headDim;
    for (const [position, rows] of [
      [780, 20],
      [500, 70],
    ] as const) {
      const shape = { rows, positions: position + rows };
      const splits = prefillSplits(layout, shape);
      expect(splits).toBe(Math.floor(shape.positions / 256));
      const record = headCount * (headDim + 2);
      const tensors = stepTensors(random, sequence, position, rows);
      const options = { ...layout, window, qkvStride, yStride: width, isSplit: true };
      const { partial } = await run(options, shape, tensors, { partial: unwritten(4 + splits * rows * record) });
      expect(partial[0]).toBe(splits);
      const combined = new Float64Array(rows * width);
      for (let row = 0; row < rows; row++) {
        const records = Array.from({ length: splits }, (_, index) => {
          const start = 4 + (index * rows + row) * record;
          return [...partial.subarray(start, start + record)];
        });
        combined.set(pagedAttentionReduceReference(records.flat(), headCount, headDim), row * width);
      }
      expectNmse(combined, pagedAttentionPrefillReference(stepInput(sequence, position, rows, window)), MAX_NMSE.soft);
    }
  },
);

test("splits fill a device, and no more than their buffer holds", () => {
  for (const heads of Object.values(HEADS)) {
    for (const rows of [17, 64, 512, 1024, 4096]) {
      for (const positions of [rows, 2048, 32_768]) {
        const splits = prefillSplits(heads, { rows, positions });
        const records = splits * rows * heads.headCount;
        if (splits > 1)
          expect((4 + records * (heads.headDim + 2)) * 4).toBeLessThanOrEqual(prefillPartialBytes(heads, { rows, positions }));
        expect(splits).toBeLessThanOrEqual(Math.max(1, positions / 256));
      }
    }
  }
});

// A chunk of a sequence whose page table is not the first.
kernelTest(pagedAttentionPrefill, { slot: [0, 5] }, async ({ run, random, slot }) => {
  const sequence = randomSequence(random, { ...HEADS["9/3×64"], kvFormat: "f16" }, 80);
  const { layout, qkvStride } = sequence;
  const { table, ...tensors } = stepTensors(random, sequence, 33, 40);
  const tableStride = table.length + 3;
  const tables = random.ids(6 * tableStride, table.length);
  tables.set(table, slot * tableStride);
  const width = layout.headCount * layout.headDim;
  const options = { ...layout, tableStride, window: null, qkvStride, yStride: width };
  const state = stepState({ position: 33, rows: 40, slot });
  const { y } = await run(options, { rows: 40, positions: 73 }, { ...tensors, state, table: tables }, { y: unwritten(40 * width) });
  expectNmse(y, pagedAttentionPrefillReference(stepInput(sequence, 33, 40, null)), MAX_NMSE.soft);
});
