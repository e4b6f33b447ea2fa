// Lets a fixed number of tasks in at once; the others wait in line.

import { assert } from "../assert";
import { linkAbort } from "./abort";

export class Gate {
  #freeCount: number;
  readonly #line: (() => void)[] = [];

  constructor(placeCount: number) {
    assert(Number.isInteger(placeCount) && placeCount > 0, `a gate with ${placeCount} places lets nothing in`);
    this.#freeCount = placeCount;
  }

  /** Resolves once there is a place. Whoever enters leaves. @throws the signal's reason when it aborts in line. */
  async enter(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#freeCount > 0) {
      this.#freeCount -= 1;
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const enter = () => {
        signal.removeEventListener("abort", giveUp);
        resolve();
      };
      const giveUp = () => {
        this.#line.splice(this.#line.indexOf(enter), 1);
        reject(signal.reason);
      };
      this.#line.push(enter);
      signal.addEventListener("abort", giveUp, { once: true });
    });
  }

  leave(): void {
    const next = this.#line.shift();
    if (next === undefined) this.#freeCount += 1;
    else next();
  }
}

/**
 * Runs `work` on every item, as many at once as the gate lets in. Of each call one item at a time stands in line, so that
 * a call with few items passes one with many. The first failure aborts the others, and is thrown once all have stopped:
 * nothing runs on after it.
 */
export async function forEachGated<T>(
  gate: Gate,
  items: readonly T[],
  signal: AbortSignal | undefined,
  work: (item: T, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const link = linkAbort(signal);
  const tasks: Promise<void>[] = [];
  try {
    for (const item of items) {
      await gate.enter(link.signal);
      tasks.push(
        work(item, link.signal)
          .catch(link.abort) // before the gate lets the next one in
          .finally(() => gate.leave()),
      );
    }
  } finally {
    await Promise.all(tasks);
    link.unlink();
  }
  link.signal.throwIfAborted();
}
