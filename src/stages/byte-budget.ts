// Limits the bytes that concurrent tasks hold. Tasks over the budget wait, in order.
import { abortReason } from "../errors";

export class ByteBudget {
  readonly #limit: number;
  #held = 0;
  readonly #waiting: { readonly bytes: number; readonly start: () => void }[] = [];

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Runs `task`, which holds `bytes`. A task larger than the whole budget runs alone. */
  async use<T>(bytes: number, task: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    await new Promise<void>((start) => {
      this.#waiting.push({ bytes, start });
      this.#startWaiting();
    });
    try {
      if (signal?.aborted) throw abortReason(signal);
      return await task();
    } finally {
      this.#held -= bytes;
      this.#startWaiting();
    }
  }

  #startWaiting(): void {
    for (let next = this.#waiting[0]; next && (this.#held === 0 || this.#held + next.bytes <= this.#limit); next = this.#waiting[0]) {
      this.#waiting.shift();
      this.#held += next.bytes;
      next.start();
    }
  }
}
