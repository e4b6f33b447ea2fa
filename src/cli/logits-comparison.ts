// How far logits are from a reference's, position by position. A token whose head row is absent has the logit −Infinity.
import { logSumExp } from "./negative-log-likelihood";

export interface PositionComparison {
  /**
   * KL(reference‖this) in nats, made finite where tokens are absent here: that of the reference renormalised over the tokens that are
   * present, and minus the log of the mass that these hold in the reference. Infinite where they hold none.
   */
  readonly klNats: number;
  /** The second part: what the absent tokens cost. */
  readonly absentNats: number;
  /** Of all the reference's tokens, be they present here or not. */
  readonly isSameFirstChoice: boolean;
  /** The largest |Δlogit| of the tokens that both have, and whose it is; null where they have none in common. */
  readonly largest: { readonly delta: number; readonly token: number } | null;
}

/** The logits of one position; both [vocab]. */
export function comparePosition(reference: Float32Array, logits: Float32Array): PositionComparison {
  const common = presentIn(logits, reference);
  const isSameFirstChoice = firstChoice(reference) === firstChoice(logits);
  const largest = largestDelta(common, logits);
  if (!largest) return { klNats: Number.POSITIVE_INFINITY, absentNats: Number.POSITIVE_INFINITY, isSameFirstChoice, largest };
  const commonSum = logSumExp(common);
  const absentNats = atLeastZero(logSumExp(reference) - commonSum);
  return { klNats: absentNats + divergence(common, commonSum, logits), absentNats, isSameFirstChoice, largest };
}

/** The reference, without the tokens that are absent from `logits`. */
function presentIn(logits: Float32Array, reference: Float32Array): Float32Array {
  const common = reference.slice();
  for (let token = 0; token < common.length; token++) {
    if (logits[token] === Number.NEGATIVE_INFINITY) common[token] = Number.NEGATIVE_INFINITY;
  }
  return common;
}

/** KL(softmax(common)‖softmax(logits)), where every token of `common` is one of `logits`. */
function divergence(common: Float32Array, commonSum: number, logits: Float32Array): number {
  const logitsSum = logSumExp(logits);
  let sum = 0;
  for (let token = 0; token < common.length; token++) {
    const value = common[token] ?? Number.NaN;
    if (value === Number.NEGATIVE_INFINITY) continue; // it has no mass
    const logChance = value - commonSum;
    sum += Math.exp(logChance) * (logChance - ((logits[token] ?? Number.NaN) - logitsSum));
  }
  return atLeastZero(sum);
}

function largestDelta(common: Float32Array, logits: Float32Array): PositionComparison["largest"] {
  let largest = { delta: Number.NEGATIVE_INFINITY, token: -1 };
  for (let token = 0; token < common.length; token++) {
    const value = common[token] ?? Number.NaN;
    if (value === Number.NEGATIVE_INFINITY) continue;
    const delta = Math.abs(value - (logits[token] ?? Number.NaN));
    if (delta > largest.delta || Number.isNaN(delta)) largest = { delta, token };
  }
  return largest.token < 0 ? null : largest;
}

/** The lowest of the tokens with the highest logit. */
function firstChoice(logits: Float32Array): number {
  return logits.indexOf(logits.reduce((highest, value) => Math.max(highest, value), Number.NEGATIVE_INFINITY));
}

/** Below zero by rounding only. NaN stays. */
function atLeastZero(value: number): number {
  return Math.max(0, value);
}

export interface ComparisonSummary {
  readonly klNats: number;
  readonly absentNats: number;
  readonly sameFirstChoice: number;
  /** `index` counts positions from the first of those that are summed up. */
  readonly largest: { readonly delta: number; readonly token: number; readonly index: number } | null;
}

/** Means over positions, of which there is one at least, and the largest difference of all. */
export function summarise(positions: readonly PositionComparison[]): ComparisonSummary {
  const mean = (value: (position: PositionComparison) => number) =>
    positions.reduce((sum, each) => sum + value(each), 0) / positions.length;
  let largest: ComparisonSummary["largest"] = null;
  for (const [index, position] of positions.entries()) {
    const found = position.largest;
    if (found && (!largest || found.delta > largest.delta || Number.isNaN(found.delta))) largest = { ...found, index };
  }
  return {
    klNats: mean(({ klNats }) => klNats),
    absentNats: mean(({ absentNats }) => absentNats),
    sameFirstChoice: mean(({ isSameFirstChoice }) => (isSameFirstChoice ? 1 : 0)),
    largest,
  };
}
