// A file on a web server, read by range requests, several at once; a cut is resumed where it happened.

import { LlmError } from "../errors";
import { allocate, splitRange } from "./byte-range";
import type { ByteRange, ByteSource } from "./byte-source";
import type { Download } from "./download";
import { forEachGated, Gate } from "./gate";
import { type GetOptions, HttpClient, type HttpOptions, WHOLE_FILE } from "./http-client";
import { changedError, contentRangeOf, type FileState, fileStateOf, isSameFile, versionOf } from "./http-headers";
import { type Patience, RetryableError } from "./retry";
import { openStream } from "./stream-source";

const CONCURRENCY = 6; // what a browser opens to one host over HTTP/1.1
const PART_BYTES = 4 << 20; // 1/3 s at 100 Mbit/s: a request's round trip stays small beside it
const HEAD_BYTES = 64 << 10; // a small checkpoint's whole header, and most config files

/**
 * Opens the file at `url`: one request tells size and version and brings the first bytes. Every later response must be
 * of the same version. Nothing runs between reads, except on a server without ranges (event `ranges-unsupported`): the
 * first read starts one stream there that runs to its end, spooled into Blobs, and every read is served from those.
 *
 * @param opening How patient the first request is, where that differs from later ones.
 * @throws LlmError "not-found" | "fetch-failed" | "bytes-truncated" | "bad-request"; the signal's reason when aborted.
 */
export async function openHttp(url: string, options: HttpOptions = {}, opening: Partial<Patience> = {}): Promise<ByteSource> {
  const client = new HttpClient(url, options);
  const get: GetOptions = { signal: options.signal, patience: { ...client.patience, ...opening } };
  const ask = (range: ByteRange) => {
    const attempt = () => client.get(range, get);
    return client.retrying(() => range, get, attempt);
  };
  const head: ByteRange = { start: 0, end: options.headBytes ?? HEAD_BYTES };
  const first = await ask(head);
  const { status, headers } = first.response;
  if (status === 416) {
    first.close();
    return emptySource(client.url, headers);
  }
  const contentRange = contentRangeOf(headers);
  if (status === 206 && contentRange !== undefined) {
    const { size } = contentRange;
    const source = new HttpSource(client, { ...fileStateOf(headers, size), size }, options);
    await source.readHead(first, { start: 0, end: Math.min(head.end, size) }, get);
    return source;
  }
  client.onEvent?.({ type: "ranges-unsupported", source: client.url });
  if (status === 200) return openStream(client, first, options);
  first.close(); // ranges, but Content-Range is hidden (CORS): neither the size nor what came can be checked
  return openStream(client, await ask(WHOLE_FILE), options);
}

class HttpSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly version?: string;
  readonly modified?: string;
  readonly #client: HttpClient;
  readonly #file: FileState;
  readonly #gate: Gate;
  readonly #partBytes: number;
  #head = new Uint8Array();
  #hasTold = false;
  #isLeftToHashes = false;

  constructor(client: HttpClient, file: FileState & { readonly size: number }, options: HttpOptions) {
    this.name = client.url;
    this.size = file.size;
    if (file.version !== undefined) this.version = file.version;
    if (file.modified !== undefined) this.modified = file.modified;
    this.#client = client;
    this.#file = file;
    this.#gate = new Gate(options.concurrency ?? CONCURRENCY);
    this.#partBytes = options.partBytes ?? PART_BYTES;
  }

  /** Keeps the bytes of `range`, the file's beginning, for later reads; `first` is the response that brings them. */
  async readHead(first: Download, range: ByteRange, get: GetOptions): Promise<void> {
    const head = allocate(this, range);
    await this.#fill(head, range, get, first);
    this.#head = head;
  }

  async read(range: ByteRange, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = allocate(this, range);
    signal?.throwIfAborted();
    const head = this.#head.subarray(range.start, range.end);
    bytes.set(head);
    const parts = splitRange({ start: range.start + head.length, end: range.end }, this.#partBytes);
    await forEachGated(this.#gate, parts, signal, (part, partSignal) =>
      this.#fill(bytes.subarray(part.start - range.start, part.end - range.start), part, {
        signal: partSignal,
        patience: this.#client.patience,
      }),
    );
    return bytes;
  }

  /** Fills `target` with `range`, through as many requests as cuts make necessary, each for what is still missing. */
  async #fill(target: Uint8Array, range: ByteRange, get: GetOptions, first?: Download): Promise<void> {
    const missing = { ...range };
    let opened = first;
    const attempt = async () => {
      const download = opened ?? (await this.#client.get(missing, get));
      opened = undefined;
      try {
        this.#check(download.response, missing);
        for await (const chunk of download.chunks()) {
          if (missing.start + chunk.length > range.end) {
            throw new LlmError("bytes-truncated", `${this.name}: more bytes came than the ${range.end - range.start} asked for`);
          }
          target.set(chunk, missing.start - range.start);
          missing.start += chunk.length;
          this.#client.onEvent?.({ type: "bytes-received", source: this.name, bytes: chunk.length, origin: "network" });
        }
      } finally {
        download.close();
      }
      if (missing.start < range.end) {
        throw new RetryableError("bytes-truncated", `the body ended ${range.end - missing.start} bytes early`);
      }
    };
    await this.#client.retrying(() => ({ ...missing }), get, attempt);
  }

  leaveToHashes(): void {
    this.#isLeftToHashes = true;
  }

  #tellOnce({ version }: FileState): void {
    if (this.#hasTold) return;
    this.#hasTold = true;
    this.#client.onEvent?.({ type: "etag-differs", source: this.name, first: String(this.version), found: String(version) });
  }

  /** Whether the response is of our version of the file, and of the range asked for. It may end early (RFC 9110, 14.2). */
  #check({ status, headers }: Response, asked: ByteRange): void {
    const contentRange = contentRangeOf(headers);
    if (status === 416) {
      const message = `${this.name}: the file changed while it was read: now it is shorter than ${asked.start} bytes. Load it again.`;
      throw new LlmError("bytes-changed", message);
    }
    const now = fileStateOf(headers, contentRange?.size ?? this.size);
    const counts = this.#isLeftToHashes ? now.size === this.size : isSameFile(this.#file, now);
    if (!counts) throw changedError(this.name, this.#file, now);
    if (now.version !== this.#file.version) this.#tellOnce(now);
    if (status === 200) throw new RetryableError("fetch-failed", "the server sent the whole file instead of a range");
    const range = contentRange?.range;
    if (range?.start !== asked.start || range.end > asked.end) {
      throw new LlmError(
        "bytes-truncated",
        `${this.name}: bytes ${asked.start}-${asked.end - 1} were asked for, the answer's Content-Range is "${headers.get("Content-Range")?.slice(0, 200)}"`,
      );
    }
  }
}

/** A file without a byte has no first range, and servers say so. */
function emptySource(name: string, headers: Headers): ByteSource {
  const contentRange = headers.get("Content-Range");
  if (contentRange !== null && contentRange !== "bytes */0") {
    throw new LlmError(
      "fetch-failed",
      `${name}: the server answered 416 to the first bytes' range (Content-Range "${contentRange.slice(0, 200)}")`,
    );
  }
  const version = versionOf(headers);
  const empty = { name, size: 0, ...(version !== undefined && { version }) };
  return { ...empty, read: async (range) => allocate(empty, range) };
}
