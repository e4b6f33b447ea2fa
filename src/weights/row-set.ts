// Sets of vocabulary rows as sorted spans: rows of a stage, rows that a prompt lacks, rows of a request or a dispatch. Plain data.
import { assert, present } from "../assert";

/** The rows from `start` to `end` (exclusive). */
export interface RowSpan {
  readonly start: number;
  readonly end: number;
}

/** Sorted, disjoint, not adjacent, never empty, so equal sets are equal arrays. */
export type RowSet = readonly RowSpan[];

/** The union of `spans`, which may be in any order, overlap or be empty. */
export function rowSet(spans: Iterable<RowSpan>): RowSet {
  const filled = [...spans].filter(({ start, end }) => {
    assert(
      Number.isSafeInteger(start) && Number.isSafeInteger(end) && 0 <= start && start <= end,
      `[${start}, ${end}) is not a span of rows`,
    );
    return start < end;
  });
  return nearbySpans(
    filled.sort((a, b) => a.start - b.start),
    0,
  );
}

/** The rows of token ids, in any order, with or without duplicates. */
export function rowsOf(ids: Iterable<number>): RowSet {
  return rowSet(Array.from(ids, (id) => ({ start: id, end: id + 1 })));
}

export function unionRows(...sets: readonly RowSet[]): RowSet {
  return rowSet(sets.flat());
}

/** The rows of `set` that are not in `removed`. */
export function subtractRows(set: RowSet, removed: RowSet): RowSet {
  const left: RowSpan[] = [];
  let next = 0;
  for (const span of set) {
    let { start } = span;
    for (let hole = removed[next]; hole && hole.start < span.end; hole = removed[++next]) {
      if (start < hole.start) left.push({ start, end: hole.start });
      start = Math.max(start, hole.end);
      if (hole.end > span.end) break; // it may reach into the next span
    }
    if (start < span.end) left.push({ start, end: span.end });
  }
  return left;
}

export function countRows(set: RowSet): number {
  return set.reduce((sum, { start, end }) => sum + end - start, 0);
}

export interface CoverOptions {
  /** Spans begin and end at multiples of it; a span may also end at `end`. */
  readonly alignment: number;
  readonly maxSpans: number;
  /** Total number of rows; no span goes past it. */
  readonly end: number;
}

/** Covers `set` with the fewest rows in at most `maxSpans` aligned spans, by filling the smallest gaps. */
export function coverRows(set: RowSet, { alignment, maxSpans, end }: CoverOptions): RowSet {
  assert(alignment >= 1 && maxSpans >= 1, `alignment ${alignment}, at most ${maxSpans} spans`);
  assert((set.at(-1)?.end ?? 0) <= end, `rows past the last one, ${end - 1}`);
  const aligned = rowSet(
    set.map((span) => ({
      start: Math.floor(span.start / alignment) * alignment,
      end: Math.min(Math.ceil(span.end / alignment) * alignment, end),
    })),
  );
  const gapBefore = (index: number) => present(aligned[index], "span").start - (aligned[index - 1]?.end ?? Number.NEGATIVE_INFINITY);
  const byGap = [...aligned.keys()].sort((a, b) => gapBefore(b) - gapBefore(a));
  const opening = new Set(byGap.slice(0, maxSpans));
  const cover: { start: number; end: number }[] = [];
  for (const [index, span] of aligned.entries()) {
    const last = cover.at(-1);
    if (last && !opening.has(index)) last.end = span.end;
    else cover.push({ ...span });
  }
  return cover;
}

/** Joins spans, sorted by start, that have at most `maxGap` rows between them. The rows in the gap are included. */
export function nearbySpans(sorted: readonly RowSpan[], maxGap: number): RowSet {
  const spans: { start: number; end: number }[] = [];
  for (const { start, end } of sorted) {
    const last = spans.at(-1);
    if (last && start - last.end <= maxGap) last.end = Math.max(last.end, end);
    else spans.push({ start, end });
  }
  return spans;
}
