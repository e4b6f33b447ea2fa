// Penalties and bias on the logits, in f64.
import { IN_PROMPT, type SamplingParams } from "../../src/kernels/sampling-params";

export interface SamplingInput {
  readonly logits: ArrayLike<number>;
  readonly bias: ArrayLike<number>;
  readonly counts: ArrayLike<number>;
  readonly params: SamplingParams;
}

/** The logit of a token that must never be drawn. */
export const FORBIDDEN = -1e30;

export function sampleCandidatesReference({ logits, bias, counts, params }: SamplingInput): Float64Array {
  return Float64Array.from(logits, (raw, id) => {
    const count = counts[id] ?? 0;
    const answerCount = count >= IN_PROMPT ? count - IN_PROMPT : count;
    let logit = raw;
    if (count > 0) logit = logit > 0 ? logit / params.repetitionPenalty : logit * params.repetitionPenalty;
    if (answerCount > 0) logit -= params.presencePenalty + params.frequencyPenalty * answerCount;
    return Math.max(logit + (bias[id] ?? 0), FORBIDDEN);
  });
}
