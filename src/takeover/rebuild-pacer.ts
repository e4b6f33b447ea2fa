// Decides how much of a rebuild goes between two decode steps, so that the visitor hardly notices. It learns from the time that tokens take with and
// without slices. Tokens come back from the GPU in bursts (three of four at once, say), and a slice delays later tokens than the next one: only means over
// many tokens are meaningful.

// During a rebuild, decode may be slower by this fraction.
const SLOWDOWN = 0.3;
// A rebuild takes at most this long between two tokens, if its slices are short enough.
const MAX_GAP_MS = 8;
// A slice is short enough if it takes at most this many milliseconds, or at most one step's share.
const LONG_SLICE_MS = 4;
// Stalls are clamped to this multiple of the expected time. Otherwise one stall would block rebuilding until the answer ends.
const MAX_RISE = 8;
// The least time of a step or a slice, even if a coarse clock says zero.
const LEAST_COST_MS = 0.02;
// After a stall, steps look slow and slices look free. Uncapped, dozens of slices ran back to back (a gap of 30 ms).
const MOST_SLICES = 8;
// Steps to measure before the first slice.
const FIRST_STEPS = 8;
// Means are taken over this many tokens.
const MEMORY = 32;
// The delay from a slice may show in up to this many tokens after it.
const LAG = 8;
// A mean needs this many. With fewer tokens, one burst may hold all of the time and another none of it.
const ENOUGH_SLICES = 4;
const ENOUGH_TOKENS = 16;
const FIRST_ROWS = 64;
const LEAST_ROWS = 16;
const MOST_ROWS = 512;
// The rest is rebuilt in chunks of the fewest rows once this many of them suffice. A larger chunk takes as long however few of its rows are used, and
// decode would add as many positions meanwhile.
const SHORT_CHUNKS = 6;

export class RebuildPacer {
  readonly #vectorRows: number;
  /** The mean time of steps without slices, and the number of those steps. */
  #stepMs = 0;
  #steps = 0;
  #sliceMs: number | null = null;
  /** Tokens, time and slices since slices began. Older tokens count less. */
  #seen = { tokens: 0, ms: 0, slices: 0 };
  /** Tokens and slices since the number of rows changed. */
  #sinceRows = { tokens: 0, slices: 0 };
  #sinceAsked = LAG;
  #creditMs = 0;
  #rows = FIRST_ROWS;
  /** Rows of a chunk while many positions are left. */
  #longRows = FIRST_ROWS;

  /** `vectorRows`: see `ScratchLayout`. */
  constructor(vectorRows: number) {
    this.#vectorRows = vectorRows;
  }

  /** Records the time from one token to the next, and the number of slices submitted before the later one's step. */
  tokenCame(intervalMs: number, slices: number): void {
    const isRebuilding = slices > 0 || ++this.#sinceAsked <= LAG;
    if (slices === 0 && (!isRebuilding || this.#steps < FIRST_STEPS)) {
      this.#learnStep(intervalMs);
      return;
    }
    const expectedMs = this.#stepMs + slices * this.#expectedSliceMs;
    const keep = 1 - 1 / MEMORY;
    const { tokens, ms, slices: seen } = this.#seen;
    this.#seen = {
      tokens: keep * tokens + 1,
      ms: keep * ms + Math.min(intervalMs, MAX_RISE * Math.max(expectedMs, LEAST_COST_MS)),
      slices: keep * seen + slices,
    };
    const extraMs = this.#seen.ms - this.#seen.tokens * this.#stepMs;
    this.#sinceRows = { tokens: this.#sinceRows.tokens + 1, slices: this.#sinceRows.slices + slices };
    if (this.#isMeasured && this.#seen.slices >= 1) this.#sliceMs = Math.max(LEAST_COST_MS, extraMs / this.#seen.slices);
  }

  /** The number of slices to submit before the next step; none until the time of a step is known. */
  slicesNow(): number {
    this.#sinceAsked = 0;
    if (this.#steps < FIRST_STEPS) return 0;
    const sliceMs = this.#expectedSliceMs;
    // At most one slice beyond a step's share: otherwise credit saved for expensive slices would pay for dozens of cheap ones.
    const shareMs = SLOWDOWN * this.#stepMs;
    this.#creditMs = Math.min(this.#creditMs + shareMs, shareMs + sliceMs, Math.max(MAX_GAP_MS, sliceMs));
    const slices = Math.min(MOST_SLICES, Math.floor(this.#creditMs / sliceMs));
    this.#creditMs -= slices * sliceMs;
    return slices;
  }

  /** Rows of the next chunk of `remaining`; a slice is one layer of it. A fast device gets many rows, so that rebuilding outruns decoding. */
  chunkRows(remaining: number): number {
    if (isShort(remaining, this.#vectorRows)) return this.#changeRows(this.#vectorRows);
    if (this.#sliceMs === null || !this.#isMeasured || this.#rows !== this.#longRows) return this.#changeRows(this.#longRows);
    const longMs = Math.max(LONG_SLICE_MS, SLOWDOWN * this.#stepMs);
    const factor = this.#sliceMs > longMs ? 0.5 : this.#sliceMs < longMs / 4 ? 2 : 1;
    this.#longRows = Math.min(MOST_ROWS, Math.max(LEAST_ROWS, factor * this.#longRows));
    return this.#changeRows(this.#longRows);
  }

  #changeRows(rows: number): number {
    if (rows === this.#rows) return rows;
    // Until slices of this size are measured: their cost grows at most linearly with rows, and shrinks with the square root of rows.
    const ratio = rows / this.#rows;
    if (this.#sliceMs !== null) this.#sliceMs *= ratio > 1 ? ratio : Math.sqrt(ratio);
    this.#seen = { tokens: 0, ms: 0, slices: 0 };
    this.#sinceRows = { tokens: 0, slices: 0 };
    this.#rows = rows;
    return rows;
  }

  #learnStep(intervalMs: number): void {
    const ms = this.#steps < FIRST_STEPS ? intervalMs : Math.min(intervalMs, MAX_RISE * this.#stepMs);
    this.#steps++;
    this.#stepMs = Math.max(LEAST_COST_MS, this.#stepMs + (ms - this.#stepMs) / Math.min(this.#steps, MEMORY));
    this.#seen = { tokens: 0, ms: 0, slices: 0 };
  }

  get #isMeasured(): boolean {
    return this.#sinceRows.tokens >= ENOUGH_TOKENS && this.#sinceRows.slices >= ENOUGH_SLICES;
  }

  /** A guess until some slices were measured. */
  get #expectedSliceMs(): number {
    return this.#sliceMs ?? SLOWDOWN * this.#stepMs;
  }
}

/** Whether the rest should be rebuilt in chunks of `vectorRows`. */
export function isShort(remaining: number, vectorRows: number): boolean {
  return remaining <= SHORT_CHUNKS * vectorRows;
}
