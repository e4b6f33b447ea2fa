// One generation request on its way: what it has said, which steps are submitted for it, and what of its K/V they make valid. It may begin
// several times: its device can be lost, or its pages be taken by a request that came before it. What was said stays said.

import { LlmError } from "../errors";
import type { LayerState } from "../kv/layer-state";
import { type FinishReason, GenerationProgress, type GenerationResult } from "../steps/generation-progress";
import type { RowResult } from "../steps/result-ring";
import type { ResolvedSampling } from "../steps/sampling-settings";
import type { Sequence, TokenId } from "../steps/sequence";

export interface GenerationRequest {
  /** Its tokens are the prompt; those sampled are appended. Nobody else may change it until the request is over. */
  readonly sequence: Sequence;
  readonly sampling: ResolvedSampling;
  readonly stopIds: readonly TokenId[];
  readonly maxTokens: number;
  /** Takes each token as it comes, with the index of the stage that sampled it; false ends the run with reason "stop" (a stop string was found). */
  readonly onToken: (id: TokenId, stage: number) => boolean;
  readonly signal?: AbortSignal | undefined;
}

/**
 * - `waiting`: for its turn to begin.
 * - `starting`: what its tokens need is fetched.
 * - `prefill`: chunks of its prompt are computed.
 * - `decode`: it has a row in each decode step.
 * - `over`.
 */
export type RunState = "waiting" | "starting" | "prefill" | "decode" | "over";

export class Run {
  readonly request: GenerationRequest;
  readonly progress = new GenerationProgress();
  readonly ended: Promise<GenerationResult>;
  state: RunState = "waiting";
  /** Counts its beginnings: a step submitted for an earlier one has nothing to say any more. */
  attempt = 0;
  /** Where it has its page table and sampling settings, while it runs. */
  slot = -1;
  /** Tokens that it began with this time. */
  promptLength = 0;
  /** Of them, those whose K/V was there. */
  cachedTokens = 0;
  /** Devices that it has lost since its last token. */
  losses = 0;
  /** Sampled steps submitted this time, and those whose token has come. */
  #submitted = 0;
  #taken = 0;
  /** Where the newest step under way writes its K/V. */
  #writtenTo: readonly LayerState[] = [];
  #isStopped = false;
  /** The pool has no page for its next position, and nobody that could give one up. */
  isOutOfRoom = false;
  #leaveSequence: () => void = () => undefined;
  readonly #resolve: (result: GenerationResult) => void;
  readonly #reject: (reason: unknown) => void;

  constructor(request: GenerationRequest) {
    this.request = request;
    let resolve: (result: GenerationResult) => void = () => undefined;
    let reject: (reason: unknown) => void = () => undefined;
    this.ended = new Promise((resolveIt, rejectIt) => {
      resolve = resolveIt;
      reject = rejectIt;
    });
    this.#resolve = resolve;
    this.#reject = reject;
  }

  get sequence(): Sequence {
    return this.request.sequence;
  }

  /** Tokens said, and those that are under way. */
  get #sampled(): number {
    return this.progress.said + this.#submitted - this.#taken;
  }

  /** The position of its next decode step. */
  get position(): number {
    return this.promptLength + this.#submitted - 1;
  }

  /** Whether a further decode step is wanted: the token limit leaves room for its token, and the context for its position and the token's own. */
  wantsStep(contextLength: number): boolean {
    if (this.state !== "decode" || this.#isStopped || this.isOutOfRoom) return false;
    return this.#sampled < this.request.maxTokens && this.position + 1 < contextLength;
  }

  get hasPending(): boolean {
    return this.#submitted > this.#taken;
  }

  /** Begins, or begins again, in a slot. `leaveSequence` is called when it ends or is put back. */
  begin(slot: number, leaveSequence: () => void): void {
    this.attempt++;
    this.slot = slot;
    this.#leaveSequence = leaveSequence;
    this.state = "starting";
    this.isOutOfRoom = false;
    this.#submitted = 0;
    this.#taken = 0;
    this.progress.start();
  }

  /** The sequence is as far as it will be before chunks of it are computed. */
  beginPrefill(): void {
    this.state = "prefill";
    this.promptLength = this.sequence.tokens.length;
    this.cachedTokens = this.sequence.cachedLength;
  }

  noteSubmitted(): void {
    this.#submitted++;
    this.#writtenTo = this.sequence.parts;
  }

  /**
   * Takes the result of the oldest step under way. Gives the time since the token before, if there was one, and whether the run is over.
   *
   * @throws LlmError where nothing could be sampled; what `onToken` throws.
   */
  take({ token, end }: RowResult, stage: number): { readonly intervalMs: number | null; readonly isOver: boolean } {
    this.#taken++;
    if (end === "after-stop") return { intervalMs: null, isOver: true };
    if (end === "nothing-allowed") throw new LlmError("bad-request", "logitBias forbids every token: nothing is left to choose from.");
    if (end === "not-a-number") throw notANumber();
    this.losses = 0;
    const intervalMs = this.progress.token();
    this.sequence.append([token]);
    this.#isStopped = end === "stop-token";
    const goesOn = this.request.onToken(token, stage) && !this.#isStopped;
    return { intervalMs, isOver: !goesOn };
  }

  /**
   * Leaves the sequence with the K/V that is valid for its tokens. Steps that are still under way run before whatever is submitted next, so what
   * they write beyond is never read.
   */
  end(): void {
    this.#leaveSequence();
    if (this.#submitted === 0) return; // chunks of its prompt were marked as they were submitted
    const written = this.promptLength + this.#submitted - 1;
    this.sequence.settle(Math.min(written, this.sequence.tokens.length - (this.#isStopped ? 1 : 0)), this.#writtenTo);
    this.sequence.checkpoint();
  }

  finish(finishReason: FinishReason): void {
    this.state = "over";
    this.#resolve({ finishReason, ...this.progress.timings(this.cachedTokens, this.promptLength - this.cachedTokens) });
  }

  fail(reason: unknown): void {
    this.state = "over";
    this.#reject(reason);
  }
}

function notANumber(): LlmError {
  return new LlmError(
    "bad-weights",
    "The model's logits are not numbers (NaN): its weights hold values that overflow, or the graphics driver computes wrong. " +
      'Load it with kvFormat: "f32" and without: ["f16", "subgroups"], or use another file of the model.',
  );
}
