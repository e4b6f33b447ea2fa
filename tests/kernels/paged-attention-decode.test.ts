import { expect } from "vitest";
import { pagedAttentionDecode } from "../../src/kernels/paged-attention-decode";
import { pagedAttentionDecodeReference } from "../reference/paged-attention-decode";
import { pagedAttentionReduceReference } from "../reference/paged-attention-reduce";
import { randomTable, scatter, stored } from "../reference/paged-cache";
import { expectNmse } from "../support/expect-close";
import { kernelTest, type RunKernel, unwritten } from "../support/kernel-test";
import type { Random } from "../support/random";

const MAX_NMSE = 1e-12;

// Query heads, K/V heads, dimensions: groups of 1 to 8, of Falcon's 4 and 71 on one head, and what fills no workgroup evenly.
const HEADS = {
  "4/2×16": { headCount: 4, kvHeadCount: 2, headDim: 16, pageSize: 16 },
  "9/3×64": { headCount: 9, kvHeadCount: 3, headDim: 64, pageSize: 32 },
  "14/2×64": { headCount: 14, kvHeadCount: 2, headDim: 64, pageSize: 16 },
  "3/3×32": { headCount: 3, kvHeadCount: 3, headDim: 32, pageSize: 64 },
  "71/1×32": { headCount: 71, kvHeadCount: 1, headDim: 32, pageSize: 16 },
  "4/1×80": { headCount: 4, kvHeadCount: 1, headDim: 80, pageSize: 128 },
  "8/1×128": { headCount: 8, kvHeadCount: 1, headDim: 128, pageSize: 16 },
  "5/1×256": { headCount: 5, kvHeadCount: 1, headDim: 256, pageSize: 32 },
} as const;
const ALL_HEADS = Object.keys(HEADS) as (keyof typeof HEADS)[];

interface Case {
  readonly heads: keyof typeof HEADS;
  readonly kvFormat: "f32" | "f16";
  readonly window: number | null;
  readonly direct: boolean;
  readonly split: 64 | 128 | 256;
  /** That the query sees without a window, itself included. */
  readonly context: number;
  /** Standard deviation of the unscaled scores. */
  readonly spread: number;
  /** Upper bound of the context that the CPU knows. */
  readonly bound?: number;
}

type Run = RunKernel<
  "state" | "qkv" | "table" | "keys" | "values" | "partial" | "y",
  Parameters<typeof pagedAttentionDecode.variant>[0],
  { rows: number; positions: number }
>;

async function attend(run: Run, random: Random, test: Case) {
  const { kvFormat, window, direct, split, context, bound = context } = test;
  const layout = { ...HEADS[test.heads], kvFormat };
  const { headCount, kvHeadCount, headDim, pageSize } = layout;
  const qkv = random.normal([(headCount + 2 * kvHeadCount) * headDim], Math.sqrt(test.spread / Math.sqrt(headDim)));
  const keys = stored(layout, random.normal([context * kvHeadCount * headDim], Math.sqrt(test.spread / Math.sqrt(headDim))));
  const values = stored(layout, random.normal([context * kvHeadCount * headDim]));
  const table = randomTable(random, context, pageSize);
  const tensors = {
    state: new Uint32Array([context - 1, 1, 0, 0]),
    qkv,
    table,
    keys: scatter(random, layout, table, keys),
    values: scatter(random, layout, table, values),
  };
  const input = { ...layout, window, qkvStride: qkv.length, qkv, keys, values, position: context - 1 };
  const options = { ...layout, window, direct, split };
  const expected = pagedAttentionDecodeReference(input);
  if (direct) {
    const { y } = await run(options, { rows: 1, positions: bound }, tensors, { y: unwritten(headCount * headDim) });
    return { actual: y, expected };
  }
  const record = headCount * (headDim + 2);
  const { partial } = await run(options, { rows: 1, positions: bound }, tensors, { partial: unwritten(Math.ceil(bound / split) * record) });
  const first = window === null ? 0 : Math.floor(Math.max(0, context - window) / split);
  const computed = partial.subarray(first * record, Math.ceil(context / split) * record);
  for (const untouched of [partial.subarray(0, first * record), partial.subarray(Math.ceil(context / split) * record)]) {
    expect(untouched.every(Number.isNaN), "a split that no position needs was written").toBe(true);
  }
  return { actual: pagedAttentionReduceReference(computed, headCount, headDim), expected };
}

kernelTest(
  pagedAttentionDecode,
  { heads: ALL_HEADS, kvFormat: ["f32", "f16"], direct: [true, false] },
  async ({ run, random, heads, kvFormat, direct }) => {
    const { pageSize } = HEADS[heads];
    for (const context of [1, pageSize - 1, pageSize, pageSize + 1, 250, ...(direct ? [256] : [257, 600])]) {
      const { actual, expected } = await attend(run, random, { heads, kvFormat, window: null, direct, split: 256, context, spread: 5 });
      expectNmse(actual, expected, MAX_NMSE);
    }
  },
);
