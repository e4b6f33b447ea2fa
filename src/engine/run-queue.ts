// One run at a time, in the order that they asked: answers of several chats never interleave on the GPU, and none is starved.
import { abortReason } from "../errors";

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

function abortable(promise: Promise<void>, signal?: AbortSignal): Promise<void> {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(abortReason(signal));
    if (signal.aborted) return onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    void promise.then(() => {
      signal.removeEventListener("abort", onAbort);
      resolve();
    });
  });
}
