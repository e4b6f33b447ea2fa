// A queue that one side fills and the other iterates: the engine keeps decoding while its reader is busy elsewhere.

/** An iterator of a queue. Unlike a generator's, its `return` works before the first `next`, and while a `next` is waiting. */
export interface QueueIterator<T> extends AsyncIterableIterator<T, void, undefined> {
  next(): Promise<IteratorResult<T, void>>;
  /** Leaves: what waits here ends, and the queue hears of it unless it was over. */
  return(): Promise<IteratorReturnResult<void>>;
  throw(error?: unknown): Promise<IteratorResult<T, void>>;
  [Symbol.asyncIterator](): QueueIterator<T>;
}

interface Waiter<T> {
  readonly resolve: (result: IteratorResult<T, void>) => void;
  readonly reject: (error: unknown) => void;
}

const DONE: IteratorReturnResult<void> = { done: true, value: undefined };

/** Several iterators share the items: each item goes to the one that asked first. */
export class AsyncQueue<T> implements AsyncIterable<T> {
  readonly #items: T[] = [];
  readonly #waiters: Waiter<T>[] = [];
  #end: { readonly error?: unknown } | null = null;
  /** Called when a reader leaves before the end. */
  readonly #onReturn: () => void;

  constructor(onReturn: () => void) {
    this.#onReturn = onReturn;
  }

  push(item: T): void {
    const waiter = this.#waiters.shift();
    if (waiter) waiter.resolve({ done: false, value: item });
    else this.#items.push(item);
  }

  end(): void {
    this.#end ??= {};
    for (const { resolve } of this.#waiters.splice(0)) resolve(DONE);
  }

  /** Readers get what was pushed before, then the error. */
  fail(error: unknown): void {
    this.#end ??= { error };
    for (const { reject } of this.#waiters.splice(0)) reject(error);
  }

  [Symbol.asyncIterator](): QueueIterator<T> {
    const waiting = new Set<Waiter<T>>();
    let isDone = false;
    const leave = () => {
      isDone = true;
      for (const waiter of waiting) {
        this.#waiters.splice(this.#waiters.indexOf(waiter), 1);
        waiter.resolve(DONE);
      }
      waiting.clear();
      if (!this.#end) this.#onReturn();
    };
    const next = async (): Promise<IteratorResult<T, void>> => {
      if (isDone) return DONE;
      try {
        const result = await this.#next(waiting);
        isDone ||= result.done === true;
        return result;
      } catch (error) {
        isDone = true;
        throw error;
      }
    };
    const iterator: QueueIterator<T> = {
      next,
      return: async () => {
        leave();
        return DONE;
      },
      throw: async (error) => {
        leave();
        throw error;
      },
      [Symbol.asyncIterator]: () => iterator,
    };
    return iterator;
  }

  /** The next item, which is waited for among `waiting`. */
  #next(waiting: Set<Waiter<T>>): Promise<IteratorResult<T, void>> {
    const [item] = this.#items.splice(0, 1);
    if (item !== undefined) return Promise.resolve({ done: false, value: item });
    if (this.#end) return "error" in this.#end ? Promise.reject(this.#end.error) : Promise.resolve(DONE);
    return new Promise((resolve, reject) => {
      const waiter: Waiter<T> = {
        resolve: (result) => {
          waiting.delete(waiter);
          resolve(result);
        },
        reject: (error) => {
          waiting.delete(waiter);
          reject(error);
        },
      };
      waiting.add(waiter);
      this.#waiters.push(waiter);
    });
  }
}
