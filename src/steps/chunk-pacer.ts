// How many rows the next prefill chunk has: as many as the device computes in a time that an abort, and the page that shares the device, can
// wait. The cut changes results by rounding at most.

/** What a chunk should take. It is submitted in several parts, between which the page is drawn. */
const TARGET_MS = 100;
const FIRST_ROWS = 256;
const LEAST_ROWS = 32;
/** Beside decode steps, a chunk takes this part of the time: whoever reads an answer waits for it between two tokens. */
const SHARED_PART = 4;

export interface ChunkPacer {
  /** Rows of the next chunk of `remaining` rows, at least 1. Fewer where others' decode steps go between chunks (`isShared`). */
  next(remaining: number, isShared?: boolean): number;
  /** A chunk took so long on the device. */
  took(rows: number, ms: number): void;
}

/** The pacer for an adapter. On software adapters pacing gains nothing, and each extra chunk costs. */
export function pacerFor({ software }: { readonly software: boolean }, chunkRows: number, vectorRows: number): ChunkPacer {
  return (software ? fixedChunks : pacedChunks)(chunkRows, vectorRows);
}

/** Chunks of `rows` rows whatever they take. `vectorRows`: see `ScratchLayout`. */
export function fixedChunks(rows: number, vectorRows: number): ChunkPacer {
  return { next: (remaining) => withoutShortRest(remaining, rows, vectorRows), took: () => undefined };
}

/** Chunks of at most `maxRows` rows, their number learned from how long those before took. */
export function pacedChunks(maxRows: number, vectorRows: number): ChunkPacer {
  let wanted = Math.min(FIRST_ROWS, maxRows);
  const least = Math.max(LEAST_ROWS, 2 * vectorRows + 1); // what can be cut without leaving a few
  return {
    next: (remaining, isShared = false) => {
      const rows = isShared ? Math.max(least, Math.floor(wanted / SHARED_PART)) : wanted;
      return withoutShortRest(remaining, Math.min(rows, maxRows), vectorRows);
    },
    took: (rows, ms) => {
      if (2 * rows < wanted) return; // the end of a prompt: a short chunk says little of a long one
      const fitting = (TARGET_MS * rows) / Math.max(ms, 0.1);
      wanted = Math.min(maxRows, Math.max(least, 2 ** Math.floor(Math.log2(fitting))));
    },
  };
}

/**
 * Few rows by themselves go through the kernels of decode, whose sums differ in their last bits: they are not left over by a cut, lest the result
 * depend on where the cuts fell.
 */
function withoutShortRest(remaining: number, rows: number, vectorRows: number): number {
  if (remaining <= rows) return remaining;
  const lacking = vectorRows + 1 - (remaining - rows);
  return lacking > 0 && rows - lacking > vectorRows ? rows - lacking : rows;
}
