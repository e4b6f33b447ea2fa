// Asks one URL for ranges of bytes: where redirects lead, what a status means, and when to ask again.

import { LlmError } from "../errors";
import type { ByteEventListener, ByteRange } from "./byte-source";
import { Download } from "./download";
import { isRetryable, isServed, statusError } from "./http-status";
import { DEFAULT_PATIENCE, type Patience, retry } from "./retry";

export interface HttpOptions extends Partial<Patience> {
  /** Instead of the global `fetch`. */
  readonly fetch?: typeof fetch;
  /** Sent with each request, such as `Authorization`. Any header beyond that makes browsers ask the server first (CORS). */
  readonly headers?: Readonly<Record<string, string>>;
  /** Ends the opening. On a server without ranges it also stops the stream that runs just then; a later read begins another. */
  readonly signal?: AbortSignal;
  readonly onEvent?: ByteEventListener;
  /** Requests at once, over all reads of the source. */
  readonly concurrency?: number;
  /** A longer range is asked for in parts of so many bytes. */
  readonly partBytes?: number;
  /** The first request brings so much of the file's beginning, where the headers of model files lie. */
  readonly headBytes?: number;
  /** Where the server tells neither ranges nor a length, the whole file comes while it is opened: at most so many bytes. Default 64 MiB. */
  readonly maxUnsizedBytes?: number;
}

export interface GetOptions {
  readonly signal: AbortSignal | undefined;
  readonly patience: Patience;
}

/** Everything to the end of the file, which need not be known. */
export const WHOLE_FILE: ByteRange = { start: 0, end: Number.POSITIVE_INFINITY };

export class HttpClient {
  readonly url: string;
  readonly patience: Patience;
  readonly onEvent: ByteEventListener | undefined;
  readonly #fetch: typeof fetch;
  readonly #headers: Readonly<Record<string, string>>;
  /** Where redirects led. Asking there spares a round trip a range, and a hub's limit on requests. */
  #location: string;

  /** @throws LlmError "bad-request" for what is no URL. */
  constructor(url: string, options: HttpOptions) {
    this.url = absoluteUrl(url);
    this.#location = this.url;
    this.patience = {
      maxAttempts: options.maxAttempts ?? DEFAULT_PATIENCE.maxAttempts,
      backoffMs: options.backoffMs ?? DEFAULT_PATIENCE.backoffMs,
      stallMs: options.stallMs ?? DEFAULT_PATIENCE.stallMs,
    };
    this.onEvent = options.onEvent;
    this.#fetch = options.fetch ?? ((input, init) => fetch(input, init));
    this.#headers = options.headers ?? {};
  }

  /**
   * One request for `range`, with status 200, 206 or 416; the caller checks which and what of.
   *
   * @throws RetryableError on no answer, 408, 429 and 5xx; LlmError "not-found" on 404 and 410, "fetch-failed" on any other status.
   */
  async get(range: ByteRange, { signal, patience }: GetOptions): Promise<Download> {
    const location = this.#location;
    const download = await Download.start((linked) => this.#request(range, linked), { signal, stallMs: patience.stallMs });
    const { status, redirected, url } = download.response;
    if (isServed(status)) {
      if (redirected) this.#location = url;
      return download;
    }
    download.close();
    // A signed address past its time answers 400, 401, 403, 404 or 410, by the maker of the server: the hub is asked once more where the file is.
    if (location !== this.url && !isRetryable(status)) {
      if (this.#location === location) this.#location = this.url;
      return this.get(range, { signal, patience });
    }
    throw statusError(this.url, download.response);
  }

  /** `attempt` under the client's patience, each failure told as an event with the range that is still missing. */
  retrying<T>(missing: () => ByteRange, { signal, patience }: GetOptions, attempt: () => Promise<T>): Promise<T> {
    const onRetry = (failure: { attempt: number; delayMs: number; reason: string }) => {
      this.#location = this.url; // which may lead elsewhere by now
      this.onEvent?.({ type: "fetch-retry", source: this.url, range: missing(), ...failure });
    };
    return retry({ name: this.url, patience, signal, progress: () => missing().start, onRetry }, attempt);
  }

  #request({ start, end }: ByteRange, signal: AbortSignal): Promise<Response> {
    const headers = new Headers(this.#headers);
    // As fetch itself does when it follows a redirect: a token is for the host it was given for.
    if (new URL(this.#location).origin !== new URL(this.url).origin) headers.delete("Authorization");
    // This form needs no CORS preflight, where If-Range would; and with it, nothing is compressed on the way.
    headers.set("Range", end === Number.POSITIVE_INFINITY ? `bytes=${start}-` : `bytes=${start}-${end - 1}`);
    return this.#fetch(this.#location, { headers, signal, cache: "no-store" });
  }
}

/** @throws LlmError "bad-request" for what is no URL. */
export function absoluteUrl(url: string): string {
  try {
    return new URL(url, globalThis.location?.href).href;
  } catch (cause) {
    throw new LlmError("bad-request", `"${url}" is no URL`, { cause });
  }
}
