// An answer on its way: iterate it for the text as it becomes certain, await `finished` for how it went.
import { linkAbort } from "../bytes/abort";
import type { FinishReason, GenerationTimings } from "../steps/generation-progress";
import { AsyncQueue, type QueueIterator } from "./async-queue";

export interface AnswerDelta {
  /** Never part of a character, and never part of a stop string. */
  readonly text: string;
  /** Index of the stage that said it (its last token): see `engine.stages`. */
  readonly stage: number;
}

export interface AnswerSummary extends GenerationTimings {
  readonly text: string;
  readonly finishReason: FinishReason;
}

/**
 * Runs by itself once made; leaving the iteration early aborts it. A failed or aborted answer throws from the iteration
 * and rejects `finished`.
 */
export class Answer implements AsyncIterable<AnswerDelta> {
  readonly finished: Promise<AnswerSummary>;
  readonly #deltas: AsyncQueue<AnswerDelta>;

  constructor(run: (emit: (delta: AnswerDelta) => void, signal: AbortSignal) => Promise<AnswerSummary>, signal?: AbortSignal) {
    const ending = linkAbort(signal);
    this.#deltas = new AsyncQueue<AnswerDelta>(() => ending.abort(new DOMException("The answer's reader left.", "AbortError")));
    this.finished = run((delta) => this.#deltas.push(delta), ending.signal).finally(() => ending.unlink());
    this.finished.then(
      () => this.#deltas.end(),
      (error: unknown) => this.#deltas.fail(error),
    );
  }

  [Symbol.asyncIterator](): QueueIterator<AnswerDelta> {
    return this.#deltas[Symbol.asyncIterator]();
  }
}
