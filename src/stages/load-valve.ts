// Holds back reads that can wait: while the visitor has paused them, and while a request waits for its first token.
import { abortable } from "../bytes/abort";

export class LoadValve {
  #holders = 0;
  #isPaused = false;
  #open: Promise<void> = Promise.resolve();
  #letGo: () => void = () => undefined;

  /** Resolves when reads may continue. @throws the signal's reason. */
  async pass(signal?: AbortSignal): Promise<void> {
    while (this.isClosed) await abortable(this.#open, signal);
  }

  get isClosed(): boolean {
    return this.#isPaused || this.#holders > 0;
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  /** No read begins until `resume`. Idempotent. */
  pause(): void {
    this.#change(() => {
      this.#isPaused = true;
    });
  }

  resume(): void {
    this.#change(() => {
      this.#isPaused = false;
    });
  }

  /** No read begins until every holder has called the function that its call returned. */
  hold(): () => void {
    let holds = true;
    this.#change(() => this.#holders++);
    return () => {
      if (!holds) return;
      holds = false;
      this.#change(() => this.#holders--);
    };
  }

  #change(act: () => void): void {
    const wasClosed = this.isClosed;
    act();
    if (this.isClosed === wasClosed) return;
    if (wasClosed) this.#letGo();
    else {
      this.#open = new Promise((resolve) => {
        this.#letGo = resolve;
      });
    }
  }
}
