// One run of the engine: prefill what is not cached, then decode until something ends it. The sequence is left with
// exactly the tokens that were taken and the K/V that is valid for them.
import { present } from "../assert";
import { abortReason, LlmError } from "../errors";
import type { StepNote } from "./result-ring";
import type { ResolvedSampling } from "./sampling-settings";
import { checkIds, type Sequence, type TokenId } from "./sequence";
import type { Stepper } from "./stepper";

/** Why a run ended: a stop token or string, the token limit, the context's end. An abort throws instead. */
export type FinishReason = "stop" | "length" | "context";

export interface GenerationRequest {
  readonly sequence: Sequence;
  readonly sampling: ResolvedSampling;
  readonly stopIds: readonly TokenId[];
  readonly maxTokens: number;
  /** Takes each token as it comes, with the index of the stage that it is from; false ends the run with reason "stop" (a stop string was found). */
  readonly onToken: (id: TokenId, stage: number) => boolean;
}

export interface GenerationTimings {
  /** Tokens whose K/V was there already. */
  readonly cachedTokens: number;
  /** Tokens that were prefilled. */
  readonly prefillTokens: number;
  readonly generatedTokens: number;
  /** From the run's start (its turn in the queue) to its first token. */
  readonly timeToFirstTokenMs: number;
  readonly prefillTokensPerSecond: number;
  /** After the first token; 0 where there was no second one. */
  readonly decodeTokensPerSecond: number;
}

export interface GenerationResult extends GenerationTimings {
  readonly finishReason: FinishReason;
}

/** What a run stands on. */
export interface GenerationHost {
  readonly contextLength: number;
  /** Makes room for `positions` of the sequence, taking pages from idle ones if need be; false: there is none. */
  readonly reserve: (sequence: Sequence, positions: number) => boolean;
  /** Brings in what the sequence's tokens need that is not there yet. */
  readonly begin: (sequence: Sequence, signal: AbortSignal) => Promise<void>;
  /** The run is over, and the sequence holds what is valid of it. */
  readonly end: (sequence: Sequence) => void;
  /**
   * Before the step at `position` is submitted: work of an upgrade that goes between steps. What is to be noted of the step, or null where no
   * step may be submitted until those under way have given their tokens.
   */
  readonly beforeStep: (sequence: Sequence, position: number) => StepNote | null;
  /** The time from one token to the next, and what was noted of the later one's step. */
  readonly tokenCame: (intervalMs: number, note: StepNote) => void;
}

/**
 * @throws LlmError "bad-request" for a sequence that is empty or holds ids of no token, and where no token may be drawn;
 * the signal's reason. The K/V there is stays valid.
 */
export async function runGeneration(
  stepper: Stepper,
  request: GenerationRequest,
  host: GenerationHost,
  progress: GenerationProgress,
  signal: AbortSignal,
): Promise<GenerationResult> {
  const { sequence } = request;
  const promptLength = sequence.tokens.length;
  if (promptLength === 0) throw new LlmError("bad-request", "The prompt has no tokens: there is nothing to go on from.");
  checkIds(sequence.tokens, stepper.model.context.config.vocabSize);
  await host.begin(sequence, signal);
  // The last token runs again where all are cached: its logits are what the first sampled token comes from.
  sequence.forget(promptLength - 1);
  const cachedTokens = sequence.cachedLength;
  const finish = (finishReason: FinishReason) => ({ finishReason, ...progress.timings(cachedTokens, promptLength - cachedTokens) });
  if (promptLength >= host.contextLength || !host.reserve(sequence, promptLength)) return finish("context");
  if (request.maxTokens <= progress.said) return finish("length");
  await stepper.prefill(sequence, { signal, sampledBefore: progress.said });
  stepper.sampler.begin(0, request.sampling, request.stopIds, sequence.tokens, progress.said);
  return finish(await decode(stepper, request, host, progress, signal));
}

async function decode(
  stepper: Stepper,
  request: GenerationRequest,
  host: GenerationHost,
  progress: GenerationProgress,
  signal: AbortSignal,
): Promise<FinishReason> {
  const { sequence } = request;
  const maxTokens = request.maxTokens - progress.said;
  const promptLength = sequence.tokens.length;
  let decodeSteps = 0;
  let stoppedByToken = false;
  // The step at a position samples the token of the next one, which must have a place too.
  const submitAhead = () => {
    while (stepper.canSubmit && decodeSteps + 1 < maxTokens) {
      const position = promptLength + decodeSteps;
      if (position + 1 >= host.contextLength || !host.reserve(sequence, position + 1)) return;
      const note = host.beforeStep(sequence, position);
      if (!note) return;
      stepper.submitDecode(sequence, position, note);
      decodeSteps++;
    }
  };
  try {
    stepper.submitFirstToken({ stage: stepper.stage, slices: 0 });
    for (let taken = 0; ; ) {
      if (signal.aborted) throw abortReason(signal);
      submitAhead();
      if (stepper.pendingCount === 0) return taken >= maxTokens ? "length" : "context";
      const { rows, note } = await stepper.takeResult();
      const { token, end } = present(rows[0], "the sequence's row");
      if (signal.aborted) throw abortReason(signal);
      if (end === "after-stop") return "stop";
      if (end === "nothing-allowed") throw new LlmError("bad-request", "logitBias forbids every token: nothing is left to choose from.");
      if (end === "not-a-number")
        throw new LlmError(
          "gpu-error",
          "The model computed logits that are not numbers. Its file may be damaged, or the graphics driver wrong: load it again, or update the driver.",
        );
      taken++;
      const intervalMs = progress.token();
      if (intervalMs !== null) host.tokenCame(intervalMs, note);
      sequence.append([token]);
      stoppedByToken = end === "stop-token";
      if (!request.onToken(token, note.stage) || stoppedByToken) return "stop";
    }
  } finally {
    // Steps submitted ahead still run; the K/V that they write for tokens we took is valid, the rest is overwritten later.
    await stepper.drain();
    const written = promptLength + decodeSteps;
    const last = sequence.tokens.length - (stoppedByToken ? 1 : 0);
    sequence.settle(Math.min(written, last));
    host.end(sequence);
  }
}

/** How far an answer has come, over all attempts at it. */
export class GenerationProgress {
  readonly #start = performance.now();
  #firstToken = 0;
  #lastToken = 0;
  #tokens = 0;

  /** Tokens so far. */
  get said(): number {
    return this.#tokens;
  }

  /** The time since the token before, if there was one. */
  token(): number | null {
    const intervalMs = performance.now() - this.#lastToken;
    this.#lastToken += intervalMs;
    if (this.#tokens++ > 0) return intervalMs;
    this.#firstToken = this.#lastToken;
    return null;
  }

  timings(cachedTokens: number, prefillTokens: number): GenerationTimings {
    const timeToFirstTokenMs = this.#tokens > 0 ? this.#firstToken - this.#start : 0;
    const decodeMs = this.#lastToken - this.#firstToken;
    return {
      cachedTokens,
      prefillTokens,
      generatedTokens: this.#tokens,
      timeToFirstTokenMs,
      prefillTokensPerSecond: timeToFirstTokenMs > 0 ? (1000 * prefillTokens) / timeToFirstTokenMs : 0,
      decodeTokensPerSecond: decodeMs > 0 ? (1000 * (this.#tokens - 1)) / decodeMs : 0,
    };
  }
}
