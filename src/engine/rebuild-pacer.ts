// How much of a rebuild goes between two decode steps, so that the visitor hardly notices: learned from how long tokens take with and without.

// Decode may take this much longer while a rebuild is on.
const SLOWDOWN = 0.35;
// Between two tokens a rebuild takes at most this long, where its slices are short enough.
const MAX_GAP_MS = 8;
const SMOOTHING = 0.2;
// A step and a slice cost something, whatever a coarse clock says.
const LEAST_COST_MS = 0.02;

export class RebuildPacer {
  #stepMs: number | null = null;
  #sliceMs: number | null = null;
  #creditMs = 0;

  /** Takes the time from one token to the next, and how many slices were submitted before the later one's step. */
  tokenCame(intervalMs: number, slices: number): void {
    if (slices === 0) {
      this.#stepMs = smoothed(this.#stepMs, Math.max(LEAST_COST_MS, intervalMs));
      return;
    }
    const extra = Math.max(0, intervalMs - (this.#stepMs ?? 0)) / slices;
    this.#sliceMs = smoothed(this.#sliceMs, Math.max(LEAST_COST_MS, extra));
  }

  /** Slices to submit before the next step. */
  slicesNow(): number {
    const stepMs = this.#stepMs ?? MAX_GAP_MS;
    const sliceMs = this.#sliceMs ?? SLOWDOWN * stepMs;
    this.#creditMs = Math.min(this.#creditMs + SLOWDOWN * stepMs, Math.max(MAX_GAP_MS, sliceMs));
    const slices = Math.floor(this.#creditMs / sliceMs);
    this.#creditMs -= slices * sliceMs;
    return slices;
  }
}

function smoothed(before: number | null, value: number): number {
  return before === null ? value : before + SMOOTHING * (value - before);
}
