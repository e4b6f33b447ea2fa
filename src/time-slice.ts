// Long work on a page's main thread, in slices: between two of them the page draws, answers clicks and takes in bytes.

const SLICE_MS = 8; // half a frame; where one piece of work follows another, two or three come without a pause

/** `if (slice.isOver) await slice.next();` in a loop whose rounds are short. */
export class TimeSlice {
  readonly #signal: AbortSignal | undefined;
  readonly #sliceMs: number;
  #end: number;

  constructor(signal?: AbortSignal, sliceMs = SLICE_MS) {
    this.#signal = signal;
    this.#sliceMs = sliceMs;
    this.#end = performance.now() + sliceMs;
  }

  get isOver(): boolean {
    return performance.now() >= this.#end;
  }

  /** Lets everything else that waits run first. @throws the signal's reason when aborted. */
  async next(): Promise<void> {
    await nextTask();
    this.#signal?.throwIfAborted();
    this.#end = performance.now() + this.#sliceMs;
  }
}

/** A task of its own: promises alone never let the page run. A timer would add 4 ms to each. */
function nextTask(): Promise<void> {
  const { port1, port2 } = new MessageChannel();
  return new Promise((resolve) => {
    port1.onmessage = () => {
      port1.close(); // an open port keeps Node from ending
      resolve();
    };
    port2.postMessage(null);
  });
}
