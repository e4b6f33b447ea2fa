// One HTTP response while it comes in: an end to silence, and failures told apart from aborts.

import { type LinkedAbort, linkAbort } from "./abort";
import { RetryableError } from "./retry";

export interface DownloadOptions {
  readonly signal: AbortSignal | undefined;
  readonly stallMs: number;
}

export class Download {
  readonly response: Response;
  readonly #link: LinkedAbort;
  readonly #stallMs: number;

  private constructor(response: Response, link: LinkedAbort, stallMs: number) {
    this.response = response;
    this.#link = link;
    this.#stallMs = stallMs;
  }

  /**
   * Sends the request and resolves with its status and headers. Whoever starts a download closes it.
   *
   * @throws RetryableError when no answer comes; the signal's reason when aborted.
   */
  static async start(request: (signal: AbortSignal) => Promise<Response>, { signal, stallMs }: DownloadOptions): Promise<Download> {
    const link = linkAbort(signal);
    try {
      const response = await watched(() => request(link.signal), link, stallMs, "fetch-failed");
      return new Download(response, link, stallMs);
    } catch (error) {
      link.unlink();
      throw error;
    }
  }

  /**
   * The body, chunk by chunk, to its end.
   *
   * @throws RetryableError when the connection is cut or falls silent; the signal's reason when aborted.
   */
  async *chunks(): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
    const reader = this.response.body?.getReader();
    if (reader === undefined) return;
    for (;;) {
      const { done, value } = await watched(() => reader.read(), this.#link, this.#stallMs, "bytes-truncated");
      if (done) return;
      yield value;
    }
  }

  /** Drops whatever has not come yet, and the connection with it. */
  close(): void {
    this.#link.abort();
    this.#link.unlink();
  }
}

async function watched<T>(
  wait: () => Promise<T>,
  { signal, abort }: LinkedAbort,
  stallMs: number,
  code: "fetch-failed" | "bytes-truncated",
): Promise<T> {
  const timer = setTimeout(() => abort(new RetryableError(code, `no byte came for ${stallMs / 1000} s`)), stallMs);
  try {
    return await wait();
  } catch (cause) {
    if (signal.aborted) throw signal.reason;
    throw new RetryableError(code, `${code === "fetch-failed" ? "no answer" : "the connection was cut"} (${reasonOf(cause)})`, { cause });
  } finally {
    clearTimeout(timer);
  }
}

/** Node hides what went wrong one level down: "fetch failed", caused by "connect ECONNREFUSED". */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error && error.cause.message !== "" ? error.cause.message : error.message;
}
