// A file on a web server whose size and version are known already: it is opened by the first read, and the network need
// not be there until then.

import { LlmError } from "../errors";
import { abortable, type LinkedAbort, linkAbort } from "./abort";
import type { ByteRange, ByteSource } from "./byte-source";
import type { CachedFile } from "./cache-directory";
import type { HttpOptions } from "./http-client";
import { isSameFile, stateOf } from "./http-headers";
import { openHttp } from "./http-source";
import { isUnreachable, type Patience } from "./retry";

interface Opening {
  readonly source: Promise<ByteSource>;
  readonly abort: LinkedAbort;
  isOver: boolean;
}

export class LaterSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly version: string;
  readonly modified?: string;
  readonly #options: HttpOptions;
  readonly #patience: Partial<Patience>;
  #opening: Opening | undefined;
  #waitingCount = 0;
  #isLeftToHashes = false;

  /** @param patience Of the first request, where that differs from later ones. */
  constructor({ url, version, size, modified }: CachedFile, options: HttpOptions, patience: Partial<Patience>) {
    this.name = url;
    this.size = size;
    this.version = version;
    if (modified !== undefined) this.modified = modified;
    this.#options = options;
    this.#patience = patience;
  }

  async read(range: ByteRange, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    signal?.throwIfAborted();
    this.#opening ??= this.#open();
    const opening = this.#opening;
    this.#waitingCount += 1;
    const source = await abortable(opening.source, signal)
      .catch((error: unknown) => {
        throw isUnreachable(error) ? this.#unreachable(range, error) : error;
      })
      .finally(() => {
        this.#waitingCount -= 1;
        if (this.#waitingCount === 0 && signal?.aborted) this.#giveUp(opening, signal.reason);
      });
    return source.read(range, signal);
  }

  leaveToHashes(): void {
    this.#isLeftToHashes = true;
    this.#opening?.source.then((source) => source.leaveToHashes?.()).catch(() => undefined); // seen where it is read
  }

  /** One opening for all reads that wait: the last one to give up ends it. After a failure the next read tries again. */
  #open(): Opening {
    // The signal of whoever made this source may have aborted since; it has nothing to say about who reads now.
    const maker = this.#options.signal;
    const abort = linkAbort(maker?.aborted ? undefined : maker);
    const source = openHttp(this.name, { ...this.#options, signal: abort.signal }, this.#patience).then((opened) => {
      if (this.#isLeftToHashes) opened.leaveToHashes?.();
      if (this.#isLeftToHashes ? opened.size === this.size : isSameFile(stateOf(opened), stateOf(this))) return opened;
      throw new LlmError(
        "bytes-changed",
        `${this.name}: the cache holds a part of version ${this.version} (${this.size} bytes), but the server now has ` +
          `${opened.version} (${opened.size} bytes). Load it again.`,
      );
    });
    const opening: Opening = { source, abort, isOver: false };
    const end = () => {
      opening.isOver = true;
    };
    source.then(end, () => {
      abort.unlink();
      end();
      if (this.#opening === opening) this.#opening = undefined;
    });
    return opening;
  }

  /** Once it is open, its reads end by themselves. */
  #giveUp(opening: Opening, reason: unknown): void {
    if (opening.isOver) return;
    opening.abort.abort(reason);
    if (this.#opening === opening) this.#opening = undefined;
  }

  #unreachable({ start, end }: ByteRange, error: LlmError): LlmError {
    const message = `${error.message}. Bytes ${start} to ${end} are not in the cache: connect to the network and try again.`;
    return new LlmError(error.code, message, { cause: error.cause });
  }
}
