// Measures the distance of logits from a reference, position by position. A token whose head row is absent has the logit −Infinity.
import { logSumExp } from "./negative-log-likelihood";

export interface PositionComparison {
  /**
   * KL(reference‖this) in nats, finite even if tokens are absent here: the KL of the reference renormalised over the present tokens, minus the log
   * of their probability in the reference. Infinite if that probability is 0.
   */
  readonly klNats: number;
  /** The second term: the cost of the absent tokens. */
  readonly absentNats: number;
  /** Counts all of the reference's tokens, including those absent here. */
  readonly isSameFirstChoice: boolean;
  /** The largest |Δlogit| over tokens that both have, with its token; null if they have none in common. */
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

/** The reference without the tokens that are absent from `logits`. */
function presentIn(logits: Float32Array, reference: Float32Array): Float32Array {
  const common = reference.slice();
  for (let token = 0; token < common.length; token++) {
    if (logits[token] === Number.NEGATIVE_INFINITY) common[token] = Number.NEGATIVE_INFINITY;
  }
  return common;
}

/** KL(softmax(common)‖softmax(logits)); every token of `common` must be in `logits`. */
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

/** The lowest id among the tokens with the highest logit. */
function firstChoice(logits: Float32Array): number {
  return logits.indexOf(logits.reduce((highest, value) => Math.max(highest, value), Number.NEGATIVE_INFINITY));
}

/** Clamps to 0 what is negative by rounding only. NaN stays. */
function atLeastZero(value: number): number {
  return Math.max(0, value);
}

export interface ComparisonSummary {
  readonly klNats: number;
  readonly absentNats: number;
  readonly sameFirstChoice: number;
  /** `index` counts from the first position that is summed up. */
  readonly largest: { readonly delta: number; readonly token: number; readonly index: number } | null;
}

/** Means over at least one position, and the largest difference. */
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
