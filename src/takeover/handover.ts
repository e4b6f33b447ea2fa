// Going over from the runtime that answers to another one: a later stage of the model, the same stage on another device. Whatever it goes to,
// it has one signal, and it ends once: it lands, or it fails, or it is called off.
import { type LinkedAbort, linkAbort } from "../bytes/abort";

export class Handover<Report> {
  /** Resolves when the next runtime answers. Rejects with what it failed for, or the reason that it was called off for. */
  readonly done: Promise<Report>;
  readonly #link: LinkedAbort;
  #isOver = false;
  #resolve: (report: Report) => void = () => undefined;
  #reject: (reason: unknown) => void = () => undefined;

  /** `signal` calls it off; `onCalledOff` then cleans up. */
  constructor(signal: AbortSignal | undefined, onCalledOff: (reason: unknown) => void = () => undefined) {
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.done.catch(() => undefined); // whoever asked for it hears of it
    this.#link = linkAbort(signal);
    this.signal.addEventListener("abort", () => {
      if (this.fail(this.signal.reason)) onCalledOff(this.signal.reason);
    });
    if (this.signal.aborted) this.fail(this.signal.reason);
  }

  /** Aborts when it is called off. Everything that prepares it goes by this signal. */
  get signal(): AbortSignal {
    return this.#link.signal;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  callOff(reason: unknown): void {
    this.#link.abort(reason);
  }

  /** False where it was over already. */
  land(report: Report): boolean {
    const isFirst = this.#end();
    if (isFirst) this.#resolve(report);
    return isFirst;
  }

  /** False where it was over already. */
  fail(reason: unknown): boolean {
    const isFirst = this.#end();
    if (isFirst) this.#reject(reason);
    return isFirst;
  }

  #end(): boolean {
    const isFirst = !this.#isOver;
    this.#isOver = true;
    this.#link.unlink();
    return isFirst;
  }
}
