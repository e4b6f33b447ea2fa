// Following and waiting beside abort signals. AbortSignal.any came to Chrome (116) later than WebGPU did (113), and a
// signal that outlives what it stops must lose its listeners.

/** A signal that follows another until it is unlinked, and can be aborted by itself. */
export interface LinkedAbort {
  readonly signal: AbortSignal;
  abort(reason?: unknown): void;
  unlink(): void;
}

/** Follows each of the signals: the first that aborts decides. Whoever links unlinks. */
export function linkAbort(...signals: readonly (AbortSignal | undefined)[]): LinkedAbort {
  const controller = new AbortController();
  const links = signals.flatMap((followed) => (followed ? [{ followed, follow: () => controller.abort(followed.reason) }] : []));
  for (const { followed, follow } of links) {
    followed.addEventListener("abort", follow);
    if (followed.aborted) follow();
  }
  return {
    signal: controller.signal,
    abort: (reason) => controller.abort(reason),
    unlink: () => {
      for (const { followed, follow } of links) followed.removeEventListener("abort", follow);
    },
  };
}

/** What `promise` gives, or the signal's reason at once when it aborts first. The promise's work itself goes on. */
export async function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}

/** @throws the signal's reason when it aborts before the time is over. */
export async function sleep(delayMs: number, signal: AbortSignal | undefined): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const over = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, delayMs);
  });
  return abortable(over, signal).finally(() => clearTimeout(timer));
}
