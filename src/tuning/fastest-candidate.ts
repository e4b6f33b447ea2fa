// Picks the fastest of several tunings from interleaved batches. Clocks are coarse, frequencies drift and other programs share the device.

/** Each round times one batch of every candidate. */
export const ROUNDS = 4;
/** Rounds that must agree; the others may be outliers. */
const DECIDING_ROUNDS = 3;
/** A candidate replaces the default if it takes at most this fraction of the default's time. */
const MAX_RATIO = 0.95;

/**
 * `times[candidate][round]`: the default comes first; candidates that were dropped early have fewer rounds. Candidates are compared by the ratio to
 * the default in the same round. Three of four rounds must reach that ratio, so neither drift nor a single lucky batch decides.
 */
export function fastestCandidate(times: readonly (readonly number[])[]): { readonly index: number; readonly ratio: number } {
  const [defaults = []] = times;
  const bestRatios = times.map((own) => ratios(own, defaults).sort((a, b) => a - b)[DECIDING_ROUNDS - 1] ?? Number.POSITIVE_INFINITY);
  const ratio = Math.min(...bestRatios);
  return ratio <= MAX_RATIO ? { index: bestRatios.indexOf(ratio), ratio } : { index: 0, ratio: 1 };
}

/** Whether this candidate can no longer win in the remaining rounds. */
export function cannotWin(own: readonly number[], defaults: readonly number[]): boolean {
  return ratios(own, defaults).filter((ratio) => ratio > MAX_RATIO).length > ROUNDS - DECIDING_ROUNDS;
}

function ratios(own: readonly number[], defaults: readonly number[]): number[] {
  return own.map((time, round) => time / (defaults[round] ?? Number.NaN));
}
