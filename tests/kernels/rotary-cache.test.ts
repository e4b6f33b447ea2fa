import { rotaryCache } from "../../src/kernels/rotary-cache";
import { foreignPool, place, poolValues, randomTable, stored } from "../reference/paged-cache";
import { rotaryCacheReference } from "../reference/rotary-cache";
import { BATCH, batchTables, rowOf } from "../support/batched-rows";
import { expectClose, expectSame } from "../support/expect-close";
import { kernelTest } from "../support/kernel-test";
import { batchState, stepState } from "../support/step-state";

const HEADS = {
  "4/2×16": { headCount: 4, kvHeadCount: 2, headDim: 16, ropeDimensions: 16, pageSize: 16 },
  "9/3×64": { headCount: 9, kvHeadCount: 3, headDim: 64, ropeDimensions: 64, pageSize: 32 },
  "5/1×80, 16 turn": { headCount: 5, kvHeadCount: 1, headDim: 80, ropeDimensions: 16, pageSize: 128 },
  "71/1×32": { headCount: 71, kvHeadCount: 1, headDim: 32, ropeDimensions: 32, pageSize: 64 },
  "2/2×256": { headCount: 2, kvHeadCount: 2, headDim: 256, ropeDimensions: 256, pageSize: 16 },
} as const;

kernelTest(
  rotaryCache,
  { heads: Object.keys(HEADS) as (keyof typeof HEADS)[], kvFormat: ["f32", "f16"] },
  async ({ run, random, heads, kvFormat }) => {
    const layout = { ...HEADS[heads], kvFormat };
    const { headCount, kvHeadCount, headDim, ropeDimensions, pageSize } = layout;
    const queryFloats = headCount * headDim;
    const keyFloats = kvHeadCount * headDim;
    const qkvStride = queryFloats + 2 * keyFloats + 32;
    for (const [position, rows] of [
      [0, 1],
      [pageSize - 1, 1],
      [pageSize, 1],
      [0, 72],
      [3 * pageSize - 4, 7],
    ] as const) {
      const positions = position + rows;
      const qkv = random.withOutliers([rows, qkvStride]);
      const rope = random.uniform([positions * ropeDimensions], -1, 1);
      const table = randomTable(random, positions, pageSize);
      const pools = { keys: foreignPool(random, layout, table.length), values: foreignPool(random, layout, table.length) };
      const state = stepState({ position, rows });
      const result = await run({ ...layout, qkvStride }, { rows, positions }, { state, rope, table }, { qkv, ...pools });

      const turned = rotaryCacheReference({ ...layout, qkvStride, qkv, rope, position, rows });
      const ofRows = (values: ArrayLike<number>, from: number, length: number) =>
        Float32Array.from(
          { length: rows * length },
          (_, i) => values[Math.floor(i / length) * qkvStride + from + (i % length)] ?? Number.NaN,
        );
      const tolerance = { atol: 2e-4, rtol: 1e-6 }; // atol: outliers of 1000 cancel
      expectClose(ofRows(result.qkv, 0, queryFloats), ofRows(turned, 0, queryFloats), tolerance);
      expectSame(ofRows(result.qkv, queryFloats, qkvStride - queryFloats), ofRows(qkv, queryFloats, qkvStride - queryFloats));
      for (const [name, written] of [
        ["keys", stored(layout, ofRows(turned, queryFloats, keyFloats))],
        ["values", stored(layout, ofRows(qkv, queryFloats + keyFloats, keyFloats))],
      ] as const) {
        const expected = poolValues(place(layout, table, pools[name], position, written));
        if (name === "values") expectSame(poolValues(result[name]), expected);
        else expectClose(poolValues(result[name]), expected, kvFormat === "f16" ? { atol: 2e-4, rtol: 1e-3 } : tolerance);
      }
    }
  },
);

// A pass repeated below an upgrade's boundary: its residuals must come out as they did, to the bit, and no K or V may change.
kernelTest(
  rotaryCache,
  { heads: Object.keys(HEADS) as (keyof typeof HEADS)[], kvFormat: ["f32", "f16"], writes: [false] },
  async ({ run, random, heads, kvFormat, writes }) => {
    const layout = { ...HEADS[heads], kvFormat };
    const { headCount, kvHeadCount, headDim, ropeDimensions, pageSize } = layout;
    const qkvStride = (headCount + 2 * kvHeadCount) * headDim + 32;
    const [position, rows] = [pageSize - 3, 7];
    const positions = position + rows;
    const rope = random.uniform([positions * ropeDimensions], -1, 1);
    const table = randomTable(random, positions, pageSize);
    const qkv = random.withOutliers([rows, qkvStride]);
    const pools = { keys: foreignPool(random, layout, table.length), values: foreignPool(random, layout, table.length) };
    const inputs = { state: stepState({ position, rows }), rope, table };
    const options = { ...layout, qkvStride };
    const shape = { rows: rows + 1, positions };
    const before = await run(options, shape, inputs, { qkv, ...pools });
    const repeated = await run({ ...options, writes }, shape, inputs, { qkv, ...pools });
    expectSame(repeated.qkv, before.qkv);
    expectSame(repeated.keys, pools.keys);
    expectSame(repeated.values, pools.values);
  },
);

// Sequences that decode together: each row is turned by its own position and written to its own page; the pages of a stopped one stay.
kernelTest(rotaryCache, { batch: ["9/3×64", "5/1×80, 16 turn"], kvFormat: ["f32", "f16"] }, async ({ run, random, batch, kvFormat }) => {
  const layout = { ...HEADS[batch], kvFormat };
  const { headCount, kvHeadCount, headDim, ropeDimensions, pageSize } = layout;
  const qkvStride = (headCount + 2 * kvHeadCount) * headDim + 32;
  const { table, tableStride, pageCount } = batchTables(random, BATCH, pageSize);
  const rope = random.uniform([251 * ropeDimensions], -1, 1);
  const qkv = random.withOutliers([BATCH.length, qkvStride]);
  const options = { ...layout, tableStride, qkvStride };
  const shape = { rows: BATCH.length + 1, positions: 251 };
  const pools = { keys: foreignPool(random, layout, pageCount), values: foreignPool(random, layout, pageCount) };
  const together = await run(options, shape, { state: batchState(BATCH), rope, table }, { qkv, ...pools });
  let alone = { qkv, ...pools };
  for (const [row, each] of BATCH.entries()) {
    const own = { qkv: rowOf(alone.qkv, row, qkvStride), keys: alone.keys, values: alone.values };
    const result = await run(options, shape, { state: batchState([each]), rope, table }, own);
    const turned = alone.qkv.slice();
    turned.set(result.qkv, row * qkvStride);
    alone = { ...result, qkv: turned };
  }
  expectSame(together.qkv, alone.qkv);
  expectSame(together.keys, alone.keys);
  expectSame(together.values, alone.values);
  const stoppedRow = BATCH.findIndex(({ stopped }) => stopped);
  expectSame(rowOf(together.qkv, stoppedRow, qkvStride), rowOf(qkv, stoppedRow, qkvStride));
});
