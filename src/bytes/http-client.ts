// Asks one URL for ranges of bytes: where redirects lead, what a status means, and when to ask again.

import { LlmError } from "../errors";
import type { ByteEventListener, ByteRange } from "./byte-source";
import { Download } from "./download";
import { retryAfterMsOf } from "./http-headers";
import { DEFAULT_PATIENCE, type Patience, RetryableError, retry } from "./retry";

export interface HttpOptions extends Partial<Patience> {
  /** Instead of the global `fetch`. */
  readonly fetch?: typeof fetch;
  /** Sent with each request, such as `Authorization`. Any header beyond that makes browsers ask the server first (CORS). */
  readonly headers?: Readonly<Record<string, string>>;
  /** Ends the opening. On a server without ranges it also ends the one stream that every read waits for. */
  readonly signal?: AbortSignal;
  readonly onEvent?: ByteEventListener;
  /** Requests at once, over all reads of the source. */
  readonly concurrency?: number;
  /** A longer range is asked for in parts of so many bytes. */
  readonly partBytes?: number;
  /** The first request brings so much of the file's beginning, where the headers of model files lie. */
  readonly headBytes?: number;
}

export interface GetOptions {
  readonly signal: AbortSignal | undefined;
  readonly patience: Patience;
}

/** Everything to the end of the file, which need not be known. */
export const WHOLE_FILE: ByteRange = { start: 0, end: Number.POSITIVE_INFINITY };

const LOCATION_LOST = [401, 403, 404, 410]; // what a CDN says to a signed address past its time

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
    const isAtLocation = this.#location !== this.url;
    const download = await Download.start((linked) => this.#request(range, linked), { signal, stallMs: patience.stallMs });
    const { status, redirected, url } = download.response;
    if (isServed(status)) {
      if (redirected) this.#location = url;
      return download;
    }
    download.close();
    if (isAtLocation && LOCATION_LOST.includes(status)) {
      this.#location = this.url;
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

function isServed(status: number): boolean {
  return status === 200 || status === 206 || status === 416;
}

/** @throws LlmError "bad-request" for what is no URL. */
export function absoluteUrl(url: string): string {
  try {
    return new URL(url, globalThis.location?.href).href;
  } catch (cause) {
    throw new LlmError("bad-request", `"${url}" is no URL`, { cause });
  }
}

function statusError(url: string, { status, headers }: Response): LlmError | RetryableError {
  if (status === 408 || status === 429 || status >= 500) {
    return new RetryableError("fetch-failed", `the server answered ${status}`, { retryAfterMs: retryAfterMsOf(headers) });
  }
  const code = status === 404 || status === 410 ? "not-found" : "fetch-failed";
  return new LlmError(code, `${url}: the server answered ${status}. ${adviceOn(status)}`);
}

function adviceOn(status: number): string {
  switch (status) {
    case 401:
    case 403:
      return (
        "The repository is private, gated or absent: accept its terms on the model's page and pass a token that may read it " +
        '(headers: { Authorization: "Bearer …" }).'
      );
    case 404:
    case 410:
      return "There is no such file: check the names of repository, revision and file.";
    default:
      return "Expected 206 (or 200) and the file's bytes.";
  }
}
