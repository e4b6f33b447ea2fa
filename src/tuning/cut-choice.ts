// Which of several cuts was fastest, from batches that take turns. Clocks are coarse, frequencies drift, and others use the device too.

/** Batches of each cut. */
export const ROUNDS = 4;
/** Rounds that decide: of the rest a cut may have been unlucky in. */
const DECIDING = 3;
/** What a cut must come down to, in parts of the default's time. */
const WORTHWHILE = 0.95;

/**
 * `times[cut][round]`, the default's first; cuts that have lost may lack rounds. A cut's figure is the time that it kept below, in parts of the
 * default's in the same round, in three rounds of four: so neither a drift nor one lucky batch among five cuts makes a winner.
 */
export function chooseCut(times: readonly (readonly number[])[]): { readonly cut: number; readonly ratio: number } {
  const [defaults = []] = times;
  const figures = times.map((own) => ratios(own, defaults).sort((a, b) => a - b)[DECIDING - 1] ?? Number.POSITIVE_INFINITY);
  const ratio = Math.min(...figures);
  return ratio <= WORTHWHILE ? { cut: figures.indexOf(ratio), ratio } : { cut: 0, ratio: 1 };
}

/** Whether the rounds to come can no more make a winner of a cut. */
export function hasLost(own: readonly number[], defaults: readonly number[]): boolean {
  return ratios(own, defaults).filter((ratio) => ratio > WORTHWHILE).length > ROUNDS - DECIDING;
}

function ratios(own: readonly number[], defaults: readonly number[]): number[] {
  return own.map((time, round) => time / (defaults[round] ?? Number.NaN));
}
