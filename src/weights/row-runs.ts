// Maps rows of a file's tensor to rows of one of our matrices. Plain data, so it can be sent to a worker.

/** `count` rows: row `from + i·fromStep` of the tensor becomes row `to + i·toStep` of the matrix. */
export interface RowRun {
  readonly from: number;
  readonly to: number;
  readonly count: number;
  readonly fromStep: number;
  readonly toStep: number;
}

export interface HeadLayout {
  readonly headCount: number;
  readonly kvHeadCount: number;
  readonly headDim: number;
}

/** The whole tensor, in order, from row `to` on. With `toStep` 2 it fills every second row, which interleaves gate and up. */
export function rowsInOrder(count: number, { to = 0, toStep = 1 }: { readonly to?: number; readonly toStep?: number } = {}): RowRun[] {
  return [{ from: 0, to, count, fromStep: 1, toStep }];
}

/**
 * Undoes the row order that llama.cpp's converter gives q and k of Llama models. There, the two members of a rotary pair are adjacent within a
 * head (2p, 2p + 1). In ours they are headDim / 2 apart (p, p + headDim / 2), as in the original checkpoints.
 */
export function rowsFromAdjacentPairs(headCount: number, headDim: number, to: number): RowRun[] {
  const half = headDim / 2;
  const runs: RowRun[] = [];
  for (let head = 0; head < headCount; head++) {
    const first = head * headDim;
    runs.push({ from: first, to: to + first, count: half, fromStep: 2, toStep: 1 });
    runs.push({ from: first + 1, to: to + first + half, count: half, fromStep: 2, toStep: 1 });
  }
  return runs;
}

/**
 * Falcon's fused projection puts each K/V head after the query heads that share it (q … q, k, v, q … q, k, v). Ours has all q, all k, all v.
 * Multi-query has one group; with as many groups as heads, q, k and v alternate head by head.
 */
export function rowsFromHeadGroups({ headCount, kvHeadCount, headDim }: HeadLayout): RowRun[] {
  const groupHeads = headCount / kvHeadCount;
  const run = (fromHead: number, toHead: number, heads: number): RowRun => ({
    from: fromHead * headDim,
    to: toHead * headDim,
    count: heads * headDim,
    fromStep: 1,
    toStep: 1,
  });
  return Array.from({ length: kvHeadCount }, (_, group) => {
    const first = group * (groupHeads + 2);
    return [
      run(first, group * groupHeads, groupHeads),
      run(first + groupHeads, headCount + group, 1),
      run(first + groupHeads + 1, headCount + kvHeadCount + group, 1),
    ];
  }).flat();
}

/** The parts of `runs` that fill rows `start` to `end` (exclusive) of the matrix, renumbered from `start` as row 0. */
export function clipRuns(runs: readonly RowRun[], start: number, end: number): RowRun[] {
  return runs.flatMap((run) => {
    const first = Math.max(0, Math.ceil((start - run.to) / run.toStep));
    const last = Math.min(run.count, Math.ceil((end - run.to) / run.toStep));
    if (last <= first) return [];
    return [{ ...run, from: run.from + first * run.fromStep, to: run.to + first * run.toStep - start, count: last - first }];
  });
}

/** The half-open range of tensor rows that covers all that `runs` read. */
export function sourceRows(runs: readonly RowRun[]): { readonly start: number; readonly end: number } {
  let start = Number.POSITIVE_INFINITY;
  let end = 0;
  for (const run of runs) {
    start = Math.min(start, run.from);
    end = Math.max(end, run.from + (run.count - 1) * run.fromStep + 1);
  }
  return { start: Math.min(start, end), end };
}
