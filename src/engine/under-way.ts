// The steps that are submitted and not settled, in the order of the GPU's queue.

interface Step {
  isDone: boolean;
  settle: () => void;
}

export class UnderWay {
  readonly #onDone: () => void;
  #steps: Step[] = [];

  /** `onDone` is called when a step is done, or has failed. */
  constructor(onDone: () => void) {
    this.#onDone = onDone;
  }

  /** Has `settle` called with what the step gives, when all steps before it are settled. */
  add<T>(done: Promise<T>, settle: (value: T) => void): void {
    const step: Step = { isDone: false, settle: () => undefined };
    this.#steps.push(step);
    const end = (act: () => void) => {
      step.isDone = true;
      step.settle = act;
      this.#onDone();
    };
    const fail = (error: unknown) => {
      throw error;
    };
    done.then(
      (value) => end(() => settle(value)),
      (error: unknown) => end(() => fail(error)),
    );
  }

  /** Settles what is done. @throws what a step failed with. */
  settleDone(): void {
    while (this.#steps[0]?.isDone) this.#steps.shift()?.settle();
  }

  /** The device is gone: nothing of it counts any more. */
  drop(): void {
    this.#steps = [];
  }
}
