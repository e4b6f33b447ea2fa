// What a sequence says of its K/V where an upgrade lands while its last steps are under way.
import { expect, test } from "vitest";
import type { KvGroup } from "../../../src/kv/kv-cache";
import { PagePool } from "../../../src/kv/page-pool";
import { Sequence } from "../../../src/steps/sequence";

function group(): KvGroup {
  return { pool: new PagePool(8, 4), layout: { pageSize: 4 }, recordsResidual: false, residuals: null } as unknown as KvGroup;
}

test("a part that came after the last step holds nothing of what that step wrote", () => {
  const [kept, old, later] = [group(), group(), group()];
  const sequence = new Sequence([kept, old]);
  sequence.append([1, 2, 3, 4, 5]);
  sequence.reserve(5);
  const writtenTo = sequence.parts;
  sequence.follow([kept, later]); // an upgrade lands that had no K/V of this sequence to rebuild
  sequence.settle(5, writtenTo);
  expect(sequence.parts.map(({ cachedLength }) => cachedLength)).toEqual([5, 0]);
});

test("a part that came with a rebuild keeps what that computed, up to the tokens that are left", () => {
  const [old, later] = [group(), group()];
  const sequence = new Sequence([old]);
  sequence.append([1, 2, 3, 4, 5]);
  const writtenTo = sequence.parts;
  for (const part of sequence.beginNext([later])) {
    part.reserve(5);
    part.append(4);
  }
  sequence.follow([later]);
  sequence.settle(3, writtenTo);
  expect(sequence.cachedLength).toBe(3);
});

test("parts that the last step wrote to hold what it wrote", () => {
  const sequence = new Sequence([group(), group()]);
  sequence.append([1, 2, 3]);
  sequence.reserve(3);
  sequence.settle(2, sequence.parts);
  expect(sequence.parts.map(({ cachedLength }) => cachedLength)).toEqual([2, 2]);
});
