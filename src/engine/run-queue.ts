// One run at a time, in the order that they asked: answers of several chats never interleave on the GPU, and none is starved.
import { abortable } from "../bytes/abort";

export class RunQueue {
  #tail: Promise<void> = Promise.resolve();

  /** Runs `task` when all asked for before are done. An abort while waiting gives the place up. */
  async run<T>(task: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const before = this.#tail;
    let leave: () => void = () => undefined;
    this.#tail = new Promise((resolve) => {
      leave = resolve;
    });
    try {
      await abortable(before, signal);
    } catch (error) {
      // Those behind still wait for those before.
      void before.then(leave);
      throw error;
    }
    try {
      return await task();
    } finally {
      leave();
    }
  }
}
