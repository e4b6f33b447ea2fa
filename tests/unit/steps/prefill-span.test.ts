// The order in which a sequence's K/V is completed.
import fc from "fast-check";
import { expect, test } from "vitest";
import { type GroupProgress, nextSpan } from "../../../src/steps/prefill-span";

const group = (cachedLength: number, recordedLength = cachedLength): GroupProgress => ({ cachedLength, recordedLength });

test("uppermost groups catch up first, from the residual below them, then new positions run through all", () => {
  expect(nextSpan([group(10), group(10), group(4)], 12)).toEqual({ start: 4, end: 10, firstGroup: 2, sourceGroup: 2 });
  expect(nextSpan([group(10), group(10), group(10)], 12)).toEqual({ start: 10, end: 12, firstGroup: 0, sourceGroup: 0 });
  expect(nextSpan([group(12), group(12)], 12)).toBeNull();
});

test("where no residual is recorded, the nearest below is the start, or the embeddings", () => {
  expect(nextSpan([group(10), group(10, 0), group(4)], 10)).toEqual({ start: 4, end: 10, firstGroup: 2, sourceGroup: 1 });
  expect(nextSpan([group(10, 0), group(10, 0), group(4)], 10)).toEqual({ start: 4, end: 10, firstGroup: 2, sourceGroup: 0 });
  // What is recorded is used as far as it goes.
  expect(nextSpan([group(10), group(10, 6), group(4)], 10)).toEqual({ start: 4, end: 6, firstGroup: 2, sourceGroup: 2 });
});

test("span after span completes every group, never writes below its first, and reads only what is complete", () => {
  const lengths = fc.array(fc.nat(30), { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(lengths, fc.array(fc.nat(30), { minLength: 5, maxLength: 5 }), fc.nat(40), (cached, recorded, extra) => {
      const groups = [...cached].sort((a, b) => b - a).map((length, index) => group(length, Math.min(length, recorded[index] ?? 0)));
      const length = (groups[0]?.cachedLength ?? 0) + extra;
      let rounds = 0;
      for (let span = nextSpan(groups, length); span; span = nextSpan(groups, length)) {
        expect(++rounds).toBeLessThan(50);
        const { start, end, firstGroup, sourceGroup } = span;
        expect(end).toBeGreaterThan(start);
        for (const [index, { cachedLength, recordedLength }] of groups.entries()) {
          if (index < firstGroup) expect(cachedLength).toBeGreaterThanOrEqual(end);
          else expect(cachedLength).toBeLessThanOrEqual(start);
          if (sourceGroup > 0 && index === sourceGroup - 1) expect(recordedLength).toBeGreaterThanOrEqual(end);
        }
        for (let index = firstGroup; index < groups.length; index++) groups[index] = group(end);
      }
      expect(groups.every(({ cachedLength }) => cachedLength === length)).toBe(true);
    }),
  );
});
