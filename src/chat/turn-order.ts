// What is asked of one chat runs in the order that it was asked: an answer, then the snapshot asked for after it, then the next answer.
import { abortable } from "../bytes/abort";

export class TurnOrder {
  #last: Promise<void> = Promise.resolve();

  /** Runs `task` after all that was asked for before. An abort while it waits gives its place up: `task` then never runs. */
  async run<T>(task: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const before = this.#last;
    let leave: () => void = () => undefined;
    this.#last = new Promise((resolve) => {
      leave = resolve;
    });
    try {
      await abortable(before, signal);
    } catch (error) {
      void before.then(leave); // the tasks behind still wait for those before
      throw error;
    }
    try {
      return await task();
    } finally {
      leave();
    }
  }
}
