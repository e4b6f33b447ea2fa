import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  countRows,
  coverRows,
  nearbySpans,
  type RowSet,
  type RowSpan,
  rowSet,
  rowsOf,
  subtractRows,
  unionRows,
} from "../../../src/weights/row-set";

const ROWS = 60;

const spans = fc.array(
  fc.tuple(fc.nat(ROWS), fc.nat(ROWS)).map(([a, b]): RowSpan => ({ start: Math.min(a, b), end: Math.max(a, b) })),
  { maxLength: 12 },
);
const sets = spans.map(rowSet);

function listed(rows: readonly RowSpan[]): number[] {
  return rows.flatMap(({ start, end }) => Array.from({ length: end - start }, (_, index) => start + index));
}

function naive(rows: readonly RowSpan[]): Set<number> {
  return new Set(listed(rows));
}

function sorted(rows: Iterable<number>): number[] {
  return [...new Set(rows)].sort((a, b) => a - b);
}

function expectNormal(set: RowSet): void {
  for (const [index, { start, end }] of set.entries()) {
    expect(start).toBeLessThan(end);
    expect(start).toBeGreaterThan(set[index - 1]?.end ?? -1);
  }
}

describe("a set of rows", () => {
  test("holds the rows of its spans, each once, in the fewest spans", () => {
    fc.assert(
      fc.property(spans, (given) => {
        const set = rowSet(given);
        expectNormal(set);
        expect(listed(set)).toEqual(sorted(listed(given)));
        expect(countRows(set)).toBe(naive(given).size);
      }),
    );
  });

  test("made of ids holds exactly these ids", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(ROWS)), (ids) => {
        const set = rowsOf(ids);
        expectNormal(set);
        expect(listed(set)).toEqual(sorted(ids));
      }),
    );
  });

  test("has the union and difference of a set of numbers", () => {
    fc.assert(
      fc.property(sets, sets, sets, (a, b, c) => {
        expect(unionRows(a, b, c)).toEqual(rowsOf([...listed(a), ...listed(b), ...listed(c)]));
        const removed = naive(b);
        expect(subtractRows(a, b)).toEqual(rowsOf(listed(a).filter((row) => !removed.has(row))));
      }),
    );
  });

  test.each([[{ start: 3, end: 2 }], [{ start: -1, end: 2 }], [{ start: 0, end: 1.5 }], [{ start: Number.NaN, end: 4 }]])(
    "is not made of %j",
    (span) => {
      expect(() => rowSet([span])).toThrow("not a span of rows");
    },
  );
});

describe("a cover", () => {
  const options = fc.record({ alignment: fc.integer({ min: 1, max: 9 }), maxSpans: fc.integer({ min: 1, max: 6 }) });

  /** The naive algorithm: align the rows, then fill the smallest gap repeatedly. */
  function coveredCount(set: RowSet, { alignment, maxSpans }: { readonly alignment: number; readonly maxSpans: number }): number {
    let cover = rowsOf(
      listed(set).flatMap((row) => listed([{ start: row - (row % alignment), end: row - (row % alignment) + alignment }])),
    );
    cover = subtractRows(cover, [{ start: ROWS, end: ROWS + alignment }]);
    for (let tooMany = cover.length - maxSpans; tooMany > 0; tooMany--) {
      const gaps = cover.slice(1).map((span, index) => ({ start: cover[index]?.end ?? 0, end: span.start }));
      const smallest = gaps.reduce((a, b) => (b.end - b.start < a.end - a.start ? b : a));
      cover = unionRows(cover, [smallest]);
    }
    return countRows(cover);
  }

  test("covers the set with the fewest rows in at most the given number of aligned spans", () => {
    fc.assert(
      fc.property(sets, options, (set, { alignment, maxSpans }) => {
        const cover = coverRows(set, { alignment, maxSpans, end: ROWS });
        expectNormal(cover);
        expect(cover.length).toBeLessThanOrEqual(maxSpans);
        expect(subtractRows(set, cover)).toEqual([]);
        for (const { start, end } of cover) {
          expect(start % alignment).toBe(0);
          if (end !== ROWS) expect(end % alignment).toBe(0);
          expect(end).toBeLessThanOrEqual(ROWS);
        }
        expect(countRows(cover)).toBe(coveredCount(set, { alignment, maxSpans }));
      }),
    );
  });

  test("of rows past the last one is refused", () => {
    expect(() => coverRows([{ start: 4, end: 11 }], { alignment: 1, maxSpans: 1, end: 10 })).toThrow("past the last one, 9");
  });
});

test("spans are joined up to the allowed gap, and only these", () => {
  fc.assert(
    fc.property(sets, fc.nat(10), (set, maxGap) => {
      const joined = nearbySpans(set, maxGap);
      for (const [index, span] of joined.entries()) {
        expect(span.start - (joined[index - 1]?.end ?? Number.NEGATIVE_INFINITY)).toBeGreaterThan(maxGap);
      }
      const gaps = set.slice(1).map((span, index) => ({ start: set[index]?.end ?? 0, end: span.start }));
      const filled = gaps.filter(({ start, end }) => end - start <= maxGap);
      expect(joined).toEqual(unionRows(set, filled));
    }),
  );
});
