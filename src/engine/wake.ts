// Wakes the engine's loop, and others that wait for a change of what it holds. A call that comes while the loop is busy is not lost.
import { abortable } from "../bytes/abort";

export class Wake {
  #isSet = false;
  #change: Promise<void>;
  #resolve: () => void = () => undefined;

  constructor() {
    this.#change = this.#nextChange();
  }

  now(): void {
    this.#isSet = true;
    this.#resolve();
    this.#change = this.#nextChange();
  }

  /** The loop looks at everything from here on: what woke it before counts no more. */
  clear(): void {
    this.#isSet = false;
  }

  /** Resolves at once where `now` was called since `clear`, else with its next call. */
  async wait(): Promise<void> {
    if (!this.#isSet) await this.#change;
  }

  /** Resolves with the next call of `now`. @throws the signal's reason. */
  next(signal: AbortSignal | undefined): Promise<void> {
    return abortable(this.#change, signal);
  }

  #nextChange(): Promise<void> {
    return new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }
}
