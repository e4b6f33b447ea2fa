// A `fetch` that can be throttled: the bodies of all responses share one token bucket. The bytes pass the real connection first, so nothing is
// faster than that. Requests and headers are not delayed.

/** Bytes that one body takes at a time: small enough that six concurrent bodies all progress, even at 10 Mbit/s. */
const SLICE_BYTES = 16 << 10;
/** Credit of an idle link: more than a timer's lateness at 100 Mbit/s, and too little to notice. */
const BURST_MS = 20;

interface Waiting {
  readonly bytes: number;
  readonly go: () => void;
}

export class LinkThrottle {
  #bytesPerMs: number | null = null;
  /** Negative: bytes that passed ahead of time. */
  #tokens = 0;
  #filledMs = 0;
  readonly #waiting: Waiting[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** Null: no limit. */
  get megabitsPerSecond(): number | null {
    return this.#bytesPerMs === null ? null : this.#bytesPerMs / 125;
  }

  /** Applies to all further bytes, including those of running responses. */
  setSpeed(megabitsPerSecond: number | null): void {
    this.#fill();
    this.#bytesPerMs = megabitsPerSecond === null ? null : 125 * megabitsPerSecond;
    this.#tokens = Math.min(0, this.#tokens);
    this.#serve();
  }

  readonly fetch: typeof fetch = async (input, init) => {
    const response = await fetch(input, init);
    return response.body === null ? response : this.#paced(response, response.body, init?.signal ?? undefined);
  };

  /** Resolves when `bytes` may pass. @throws the signal's reason. */
  async take(bytes: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    this.#fill();
    if (this.#bytesPerMs === null) return;
    if (this.#waiting.length === 0 && this.#tokens >= 0) {
      this.#tokens -= bytes;
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const leave = () => {
        this.#waiting.splice(this.#waiting.indexOf(waiting), 1);
        reject(signal?.reason);
        this.#serve();
      };
      const go = () => {
        signal?.removeEventListener("abort", leave);
        resolve();
      };
      const waiting: Waiting = { bytes, go };
      this.#waiting.push(waiting);
      signal?.addEventListener("abort", leave, { once: true });
      this.#serve();
    });
  }

  #paced(response: Response, body: ReadableStream<Uint8Array<ArrayBuffer>>, signal: AbortSignal | undefined): Response {
    const reader = body.getReader();
    const ending = new AbortController();
    const end = () => ending.abort(signal?.reason);
    signal?.addEventListener("abort", end, { once: true });
    const unlink = () => signal?.removeEventListener("abort", end);
    let chunk = new Uint8Array();
    const source: UnderlyingDefaultSource<Uint8Array<ArrayBuffer>> = {
      pull: async (controller) => {
        try {
          while (chunk.length === 0) {
            const { done, value } = await reader.read();
            if (done) {
              unlink();
              return controller.close();
            }
            chunk = value;
          }
          // Without a limit, a chunk passes unchanged.
          const slice = this.#bytesPerMs === null ? chunk : chunk.subarray(0, SLICE_BYTES);
          await this.take(slice.length, ending.signal);
          chunk = chunk.subarray(slice.length);
          controller.enqueue(slice);
        } catch (error) {
          unlink();
          throw error;
        }
      },
      cancel: (reason) => {
        unlink();
        ending.abort(reason);
        return reader.cancel(reason);
      },
    };
    const { status, statusText, headers, url, redirected } = response;
    // Nothing is read ahead: bytes that nobody has requested must not use the connection.
    const paced = new Response(new ReadableStream(source, { highWaterMark: 0 }), { status, statusText, headers });
    // A constructed response has neither, and our reader goes directly to the target of a redirect.
    return Object.defineProperties(paced, { url: { value: url }, redirected: { value: redirected } });
  }

  #fill(): void {
    const nowMs = performance.now();
    const passedMs = nowMs - this.#filledMs;
    this.#filledMs = nowMs;
    const tokens = this.#tokens + passedMs * (this.#bytesPerMs ?? 0);
    // Only an idle link's credit is capped: waiting bodies get all that accrues, however late a timer fires.
    const isIdle = this.#waiting.length === 0 && passedMs > BURST_MS;
    this.#tokens = isIdle ? Math.min(tokens, BURST_MS * (this.#bytesPerMs ?? 0)) : tokens;
  }

  /** Releases the waiting bodies whose turn has come, in order, and schedules the next. */
  #serve(): void {
    clearTimeout(this.#timer);
    this.#fill();
    while (this.#waiting.length > 0 && (this.#bytesPerMs === null || this.#tokens >= 0)) {
      const next = this.#waiting.shift();
      this.#tokens -= next?.bytes ?? 0;
      next?.go();
    }
    if (this.#bytesPerMs === null) this.#tokens = 0;
    else if (this.#waiting.length > 0) this.#timer = setTimeout(() => this.#serve(), Math.max(1, -this.#tokens / this.#bytesPerMs));
  }
}
