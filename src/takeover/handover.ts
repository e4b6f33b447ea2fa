// A change from the runtime that answers to another one: to a later stage of the model, or to the same stage on another device. Each has one signal and
// ends once: it lands, fails, or is called off.
import { type LinkedAbort, linkAbort } from "../bytes/abort";

export class Handover<Report> {
  /** Resolves when the next runtime answers. Rejects with the error that it failed with, or with the reason for calling it off. */
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
    this.done.catch(() => undefined); // callers that await it learn of the error
    this.#link = linkAbort(signal);
    this.signal.addEventListener("abort", () => {
      if (this.fail(this.signal.reason)) onCalledOff(this.signal.reason);
    });
    if (this.signal.aborted) this.fail(this.signal.reason);
  }

  /** Aborts when the handover is called off. All its preparation uses this signal. */
  get signal(): AbortSignal {
    return this.#link.signal;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  callOff(reason: unknown): void {
    this.#link.abort(reason);
  }

  /** Returns false if the handover had ended already. */
  land(report: Report): boolean {
    const isFirst = this.#end();
    if (isFirst) this.#resolve(report);
    return isFirst;
  }

  /** Returns false if the handover had ended already. */
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
