import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { clipRuns, type RowRun, rowsFromAdjacentPairs, rowsFromHeadGroups, rowsInOrder, sourceRows } from "../../../src/weights/row-runs";

/** For each row of the matrix, its source row in the tensor, or -1. */
function sources(runs: readonly RowRun[], rows: number): number[] {
  const from = new Array<number>(rows).fill(-1);
  for (const run of runs) {
    for (let i = 0; i < run.count; i++) from[run.to + i * run.toStep] = run.from + i * run.fromStep;
  }
  return from;
}

const heads = fc
  .record({ kvHeadCount: fc.integer({ min: 1, max: 6 }), groupHeads: fc.integer({ min: 1, max: 5 }), half: fc.integer({ min: 1, max: 8 }) })
  .map(({ kvHeadCount, groupHeads, half }) => ({ kvHeadCount, headCount: kvHeadCount * groupHeads, headDim: 2 * half }));

test("adjacent pairs are split as llama.cpp's converter joined them", () => {
  fc.assert(
    fc.property(heads, ({ headCount, headDim }) => {
      // The converter: reshape(heads, 2, headDim / 2), swap the last two axes, flatten.
      const converted: number[] = [];
      for (let head = 0; head < headCount; head++) {
        for (let pair = 0; pair < headDim / 2; pair++) {
          for (let member = 0; member < 2; member++) converted.push(head * headDim + member * (headDim / 2) + pair);
        }
      }
      const restored = sources(rowsFromAdjacentPairs(headCount, headDim, 0), headCount * headDim).map((row) => converted[row]);
      expect(restored).toEqual(converted.map((_, index) => index));
    }),
  );
});

test("head groups become all q, all k, all v, each in the order of its heads", () => {
  fc.assert(
    fc.property(heads, (layout) => {
      const { headCount, kvHeadCount, headDim } = layout;
      const groupHeads = headCount / kvHeadCount;
      // The meaning of each row of the fused tensor, as in Falcon's own code: [groups, groupHeads + 2, headDim].
      const fused: string[] = [];
      for (let group = 0; group < kvHeadCount; group++) {
        for (let member = 0; member < groupHeads + 2; member++) {
          const head = member < groupHeads ? `q${group * groupHeads + member}` : `${member === groupHeads ? "k" : "v"}${group}`;
          for (let dim = 0; dim < headDim; dim++) fused.push(`${head}.${dim}`);
        }
      }
      const named = (kind: string, count: number) =>
        Array.from({ length: count * headDim }, (_, row) => `${kind}${Math.floor(row / headDim)}.${row % headDim}`);
      const found = sources(rowsFromHeadGroups(layout), fused.length).map((row) => fused[row]);
      expect(found).toEqual([...named("q", headCount), ...named("k", kvHeadCount), ...named("v", kvHeadCount)]);
    }),
  );
});

describe("clipped runs", () => {
  const runs = fc.oneof(
    heads.map(({ headCount, headDim }) => rowsFromAdjacentPairs(headCount, headDim, 3)),
    heads.map(rowsFromHeadGroups),
    fc.integer({ min: 1, max: 40 }).map((count) => rowsInOrder(count, { to: 1, toStep: 2 })),
  );

  test("are exactly the matrix's rows of the range", () => {
    fc.assert(
      fc.property(runs, fc.nat(120), fc.nat(60), (all, start, length) => {
        const whole = sources(all, 400);
        expect(sources(clipRuns(all, start, start + length), length)).toEqual(whole.slice(start, start + length));
      }),
    );
  });

  test("name the rows of the tensor that they need", () => {
    fc.assert(
      fc.property(runs, fc.nat(60), fc.integer({ min: 1, max: 60 }), (all, start, length) => {
        const clipped = clipRuns(all, start, start + length);
        const used = sources(clipped, length).filter((row) => row >= 0);
        fc.pre(used.length > 0);
        expect(sourceRows(clipped)).toEqual({ start: Math.min(...used), end: Math.max(...used) + 1 });
      }),
    );
  });
});
