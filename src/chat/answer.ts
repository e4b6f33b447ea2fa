// An answer on its way: iterate it for the text as it becomes certain, await `finished` for how it went.
import { linkAbort } from "../bytes/abort";
import type { FinishReason, GenerationTimings } from "../steps/generation-progress";
import { AsyncQueue, type QueueIterator } from "./async-queue";

export interface AnswerDelta {
  /** Never part of a character, and never part of a stop string. */
  readonly text: string;
  /** Index in `engine.stages` of the stage that generated its last token. */
  readonly stage: number;
}

export interface AnswerSummary extends GenerationTimings {
  readonly text: string;
  readonly finishReason: FinishReason;
}

/**
 * Runs by itself, whether it is read or not. Leaving the iteration early aborts it, even before the first delta, and so does cancelling a stream
 * made of it. A failed or aborted answer throws from the iteration and rejects `finished`. Several iterators share the deltas: each goes to one.
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
