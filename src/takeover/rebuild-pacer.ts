// How much of a rebuild goes between two decode steps, so that the visitor hardly notices: learned from how long tokens take with and without.
// Tokens come back from the GPU in bursts (three of four at once, say), and slices are noticed at tokens after theirs: only means over many
// tokens say anything.

// Decode may take this much longer while a rebuild is on.
const SLOWDOWN = 0.3;
// Between two tokens a rebuild takes at most this long, where its slices are short enough.
const MAX_GAP_MS = 8;
// A slice of up to so many milliseconds, or of what one step's share allows, is short enough.
const LONG_SLICE_MS = 4;
// A pause of the page counts as so many times what was expected: else one of them would stop a rebuild for the rest of an answer.
const MAX_RISE = 8;
// A step and a slice cost something, whatever a coarse clock says.
const LEAST_COST_MS = 0.02;
// Where a pause made steps look slow, slices look free: dozens of them were one gap of 30 ms.
const MOST_SLICES = 8;
// Steps whose time is known before the first slice goes between two of them.
const FIRST_STEPS = 8;
// Tokens that means are taken over.
const MEMORY = 32;
// Tokens that may still come later for slices that were given before.
const LAG = 8;
// What makes a mean: of fewer tokens, one burst may have all the time and another none.
const ENOUGH_SLICES = 4;
const ENOUGH_TOKENS = 16;
const FIRST_ROWS = 64;
const LEAST_ROWS = 16;
const MOST_ROWS = 512;
// Where so many chunks of the fewest rows are left, those are taken: a chunk of many would take as long however few of its rows are used, and what
// was decoded meanwhile would be as many again.
const SHORT_CHUNKS = 6;

export class RebuildPacer {
  readonly #vectorRows: number;
  /** The mean of steps without slices, and over how many. */
  #stepMs = 0;
  #steps = 0;
  #sliceMs: number | null = null;
  /** What came while slices were given, older tokens counting less. */
  #seen = { tokens: 0, ms: 0, slices: 0 };
  /** What came since rows changed. */
  #sinceRows = { tokens: 0, slices: 0 };
  #sinceAsked = LAG;
  #creditMs = 0;
  #rows = FIRST_ROWS;
  /** Of chunks while much is left. */
  #longRows = FIRST_ROWS;

  /** `vectorRows`: see `ScratchLayout`. */
  constructor(vectorRows: number) {
    this.#vectorRows = vectorRows;
  }

  /** Takes the time from one token to the next, and how many slices were submitted before the later one's step. */
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

  /** Slices to submit before the next step. None before it is known how long a step takes. */
  slicesNow(): number {
    this.#sinceAsked = 0;
    if (this.#steps < FIRST_STEPS) return 0;
    const sliceMs = this.#expectedSliceMs;
    // No more than a slice takes beside a step's share: what was saved for dear slices would else buy cheap ones by the dozen.
    const shareMs = SLOWDOWN * this.#stepMs;
    this.#creditMs = Math.min(this.#creditMs + shareMs, shareMs + sliceMs, Math.max(MAX_GAP_MS, sliceMs));
    const slices = Math.min(MOST_SLICES, Math.floor(this.#creditMs / sliceMs));
    this.#creditMs -= slices * sliceMs;
    return slices;
  }

  /** Rows of the next chunk of `remaining`, whose layers are slices: many where a device is fast, so that rebuilding outruns decoding. */
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
    // Until slices of so many are measured: more rows cost as many times more at most, and of what fewer save, a part stays.
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

  /** A guess until some were measured. */
  get #expectedSliceMs(): number {
    return this.#sliceMs ?? SLOWDOWN * this.#stepMs;
  }
}

/** Whether what is left is to go in chunks of `vectorRows`. */
export function isShort(remaining: number, vectorRows: number): boolean {
  return remaining <= SHORT_CHUNKS * vectorRows;
}
