// A file on a server that ignores range requests: read once, as one stream in order, and kept for every later read.

import { LlmError } from "../errors";
import { abortable, type LinkedAbort, linkAbort } from "./abort";
import { allocate } from "./byte-range";
import type { ByteRange, ByteSource } from "./byte-source";
import type { Download } from "./download";
import { type HttpClient, type HttpOptions, WHOLE_FILE } from "./http-client";
import { changedError, contentLengthOf, type FileState, fileStateOf, isSameFile } from "./http-headers";
import { RetryableError } from "./retry";

const SPOOL_BYTES = 4 << 20; // what is held outside a Blob at most
const SMALL_FILE_BYTES = 64 << 10; // read while opening: a second request would cost more

const MAX_UNSIZED_BYTES = 64 << 20; // config files and tokenizers have less

export type StreamOptions = Pick<HttpOptions, "signal" | "maxUnsizedBytes">;

/**
 * The source behind `first`, a response that brings the whole file. Of a large file the response is dropped and the
 * first read asks again, so that a source that nobody reads holds no connection: browsers allow six to a host.
 *
 * The options' signal stops the stream that runs when it aborts; reads that wait fail with its reason, later ones begin another stream.
 */
export async function openStream(client: HttpClient, first: Download, options: StreamOptions): Promise<ByteSource> {
  const { headers } = first.response;
  const size = contentLengthOf(headers);
  const source = new StreamSource(client, fileStateOf(headers, size), options);
  if (size === undefined || size <= SMALL_FILE_BYTES) await source.readAll(first);
  else first.close();
  return source;
}

class StreamSource implements ByteSource {
  readonly name: string;
  readonly version?: string;
  readonly modified?: string;
  readonly #client: HttpClient;
  readonly #file: FileState;
  readonly #size: number | undefined;
  readonly #opener: AbortSignal | undefined;
  readonly #maxUnsizedBytes: number;
  readonly #spool = new Spool();
  #isComplete = false;
  #isLeftToHashes = false;
  /** The stream that runs, if one does. */
  #stream: LinkedAbort | undefined;
  #readerCount = 0;
  readonly #arrivals = new Arrivals();

  constructor(client: HttpClient, file: FileState, { signal, maxUnsizedBytes = MAX_UNSIZED_BYTES }: StreamOptions) {
    this.name = client.url;
    if (file.version !== undefined) this.version = file.version;
    if (file.modified !== undefined) this.modified = file.modified;
    this.#client = client;
    this.#file = file;
    this.#size = file.size;
    this.#opener = signal;
    this.#maxUnsizedBytes = maxUnsizedBytes;
  }

  /** Where the server told no length, it is known once all has been read. */
  get size(): number {
    return this.#size ?? this.#spool.length;
  }

  leaveToHashes(): void {
    this.#isLeftToHashes = true;
  }

  async readAll(first: Download): Promise<void> {
    this.#start(first);
    await this.#until(() => this.#isComplete, this.#opener);
  }

  async read(range: ByteRange, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = allocate(this, range);
    signal?.throwIfAborted();
    await this.#until(() => this.#spool.length >= range.end, signal);
    await abortable(this.#spool.readInto(bytes, range.start), signal);
    return bytes;
  }

  /** Waits for the stream, which it starts where none runs. The last one to give up stops it; who is served does not. */
  async #until(isThere: () => boolean, signal: AbortSignal | undefined): Promise<void> {
    this.#readerCount += 1;
    try {
      while (!isThere()) {
        if (this.#stream === undefined) this.#start();
        await abortable(this.#arrivals.next(), signal);
      }
    } finally {
      this.#readerCount -= 1;
      if (this.#readerCount === 0 && signal?.aborted) this.#stop(signal.reason);
    }
  }

  #start(first?: Download): void {
    // A signal that aborted long ago, as a load's does with its device, has nothing to say about who reads now.
    const stream = linkAbort(this.#opener?.aborted ? undefined : this.#opener);
    this.#stream = stream;
    const settle = (tell: () => void) => {
      // A stream that was stopped had no readers left; any that wait by now wait for the next one.
      if (this.#stream !== stream) return;
      stream.unlink();
      this.#stream = undefined;
      tell();
    };
    this.#run(stream.signal, first).then(
      () => settle(() => this.#arrivals.resolve()),
      (error: unknown) => settle(() => this.#arrivals.reject(error)),
    );
  }

  #stop(reason: unknown): void {
    this.#stream?.abort(reason);
    this.#stream?.unlink();
    this.#stream = undefined;
  }

  /** Reads to the end. After a cut the file starts again from its beginning, and what is there is skipped. */
  async #run(signal: AbortSignal, first?: Download): Promise<void> {
    const get = { signal, patience: this.#client.patience };
    let opened = first;
    const missing = () => ({ start: this.#spool.length, end: this.#size ?? WHOLE_FILE.end });
    await this.#client.retrying(missing, get, async () => {
      const download = opened ?? (await this.#client.get(WHOLE_FILE, get));
      opened = undefined;
      try {
        this.#check(download.response);
        await this.#receive(download, signal);
      } finally {
        download.close();
      }
      if (this.#size !== undefined && this.#spool.length < this.#size) {
        throw new RetryableError("bytes-truncated", `the stream ended ${this.#size - this.#spool.length} bytes early`);
      }
    });
    this.#isComplete = true;
  }

  async #receive(download: Download, signal: AbortSignal): Promise<void> {
    let position = 0;
    for await (const chunk of download.chunks()) {
      signal.throwIfAborted(); // a chunk already on its way must not join the next stream's
      this.#client.onEvent?.({ type: "bytes-received", source: this.name, bytes: chunk.length, origin: "network" });
      const fresh = chunk.subarray(Math.min(chunk.length, Math.max(0, this.#spool.length - position)));
      position += chunk.length;
      if (this.#size !== undefined && position > this.#size) {
        throw new LlmError("bytes-truncated", `${this.name}: more bytes came than the ${this.#size} that Content-Length told`);
      }
      if (this.#size === undefined && position > this.#maxUnsizedBytes) {
        throw new LlmError(
          "bad-file",
          `${this.name}: more than ${this.#maxUnsizedBytes} bytes came from a server that tells no length (Content-Length) and has no ranges. ` +
            "Use a server that tells one.",
        );
      }
      if (fresh.length === 0) continue;
      this.#spool.append(fresh);
      this.#arrivals.resolve();
    }
  }

  #check({ status, headers }: Response): void {
    if (status === 416) throw new LlmError("fetch-failed", `${this.name}: the server answered 416 to a request for the whole file`);
    const now = fileStateOf(headers, contentLengthOf(headers));
    const counts = this.#isLeftToHashes ? now.size === this.#size : isSameFile(this.#file, now);
    if (!counts) throw changedError(this.name, this.#file, now);
  }
}

/** Everyone who waits for the next bytes is told at once, and asks again if those were not theirs. */
class Arrivals {
  #waiting: { readonly resolve: () => void; readonly reject: (reason: unknown) => void }[] = [];

  next(): Promise<void> {
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  resolve(): void {
    for (const { resolve } of this.#waiting.splice(0)) resolve();
  }

  reject(reason: unknown): void {
    for (const { reject } of this.#waiting.splice(0)) reject(reason);
  }
}

/**
 * Bytes in the order they came, in Blobs: those lie outside the JavaScript heap, and browsers move them to disk when
 * they grow large. So any range can be served again, however large the file.
 */
class Spool {
  length = 0;
  readonly #blobs: Blob[] = []; // SPOOL_BYTES each
  #tail: Uint8Array<ArrayBuffer>[] = []; // what has come since

  append(bytes: Uint8Array<ArrayBuffer>): void {
    for (let rest = bytes; rest.length > 0; ) {
      const taken = rest.subarray(0, SPOOL_BYTES - (this.length % SPOOL_BYTES));
      rest = rest.subarray(taken.length);
      this.#tail.push(taken);
      this.length += taken.length;
      if (this.length % SPOOL_BYTES === 0) this.#blobs.push(new Blob(this.#tail.splice(0)));
    }
  }

  /** Fills `target` from `start` on; all of it must be there. */
  async readInto(target: Uint8Array, start: number): Promise<void> {
    const first = Math.floor(start / SPOOL_BYTES);
    const last = Math.ceil((start + target.length) / SPOOL_BYTES);
    const parts = last > this.#blobs.length ? [...this.#blobs.slice(first), ...this.#tail] : this.#blobs.slice(first, last);
    const from = start - first * SPOOL_BYTES;
    target.set(new Uint8Array(await new Blob(parts).slice(from, from + target.length).arrayBuffer()));
  }
}
