import { expect, test } from "vitest";
import { inBatches, type LoadItem } from "../../../src/stages/load-items";
import { memorySource } from "../../support/memory-source";

const source = memorySource(new Uint8Array(1000));

/** An item of one tensor with this byte range. */
function item(start: number, end: number): LoadItem {
  const tensor = { name: `${start}`, type: "F32" as const, shape: [(end - start) / 4], source, range: { start, end } };
  return { kind: "vector", role: "finalNormWeight", length: (end - start) / 4, parts: [{ tensor, runs: [] }] };
}

const rangesOf = (batches: readonly LoadItem[][]) => batches.map((batch) => batch.map(({ parts }) => parts[0]?.tensor.range.start));

test("items are batched in file order, whatever order they are given in", () => {
  expect(rangesOf(inBatches([item(200, 300), item(0, 100), item(100, 200)], 1000))).toEqual([[0, 100, 200]]);
});

test("a batch stays within its limit unless a single item is larger", () => {
  const items = [item(0, 100), item(100, 180), item(180, 600), item(600, 640), item(640, 700)];
  expect(rangesOf(inBatches(items, 200))).toEqual([[0, 100], [180], [600, 640]]);
});

test("no items give no batches", () => {
  expect(inBatches([], 100)).toEqual([]);
});
