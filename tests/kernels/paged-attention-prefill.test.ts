import { pagedAttentionPrefill } from "../../src/kernels/paged-attention-prefill";
import { pagedAttentionPrefillReference } from "../reference/paged-attention-prefill";
import { randomTable, scatter, stored } from "../reference/paged-cache";
import { expectNmse } from "../support/expect-close";
import { kernelTest } from "../support/kernel-test";
import type { Random } from "../support/random";

const MAX_NMSE = 1e-12;

const HEADS = {
  "4/2×16": { headCount: 4, kvHeadCount: 2, headDim: 16, pageSize: 16 },
  "9/3×64": { headCount: 9, kvHeadCount: 3, headDim: 64, pageSize: 32 },
  "3/3×32": { headCount: 3, kvHeadCount: 3, headDim: 32, pageSize: 64 },
  "71/1×32": { headCount: 71, kvHeadCount: 1, headDim: 32, pageSize: 16 },
  "4/1×80": { headCount: 4, kvHeadCount: 1, headDim: 80, pageSize: 128 },
  "8/1×128": { headCount: 8, kvHeadCount: 1, headDim: 128, pageSize: 16 },
  "2/1×256": { headCount: 2, kvHeadCount: 1, headDim: 256, pageSize: 32 },
} as const;

interface Case {
  readonly heads: keyof typeof HEADS;
  readonly kvFormat: "f32" | "f16";
  readonly window: number | null;
  readonly position: number;
  readonly rows: number;
  /** Standard deviation of the unscaled scores. */
  readonly spread: number;
}

function prefillCase(random: Random, { heads, kvFormat, window, position, rows, spread }: Case) {
  const layout = { ...HEADS[heads], kvFormat };
  const { headCount, kvHeadCount, headDim, pageSize } = layout;
  const qkvStride = (headCount + 2 * kvHeadCount) * headDim + 32;
  const scale = Math.sqrt(spread / Math.sqrt(headDim));
  const length = (position + rows) * kvHeadCount * headDim;
  const qkv = random.normal([rows * qkvStride], scale);
  const keys = stored(layout, random.normal([length], scale));
  const values = stored(layout, random.normal([length]));
  const table = randomTable(random, position + rows, pageSize);
  const cache = { table, keys: scatter(random, layout, table, keys), values: scatter(random, layout, table, values) };
  const yStride = headCount * headDim + 32;
  return {
    options: { ...layout, window, qkvStride, yStride },
    shape: { rows, positions: position + rows },
    tensors: { state: new Uint32Array([position, rows, 0, 0]), qkv, ...cache },
    y: new Float32Array(rows * yStride),
    expected: () =>
      padRows(pagedAttentionPrefillReference({ ...layout, window, qkvStride, qkv, keys, values, position, rows }), rows, yStride),
  };
}

/** Rows `stride` apart with zeros between: what pads a row must stay 0. */
function padRows(values: Float64Array, rows: number, stride: number): Float64Array {
  const padded = new Float64Array(rows * stride);
  for (let row = 0; row < rows; row++)
    padded.set(values.subarray((row * values.length) / rows, ((row + 1) * values.length) / rows), row * stride);
  return padded;
}

kernelTest(
  pagedAttentionPrefill,
  { heads: Object.keys(HEADS) as (keyof typeof HEADS)[], kvFormat: ["f32", "f16"] },
  async ({ run, random, heads, kvFormat }) => {
    for (const position of [0, 50]) {
      for (const rows of [1, 7, 16, 72]) {
        const { options, shape, tensors, y, expected } = prefillCase(random, { heads, kvFormat, window: null, position, rows, spread: 5 });
        const result = await run(options, shape, tensors, { y });
        expectNmse(result.y, expected(), MAX_NMSE);
      }
    }
  },
);
