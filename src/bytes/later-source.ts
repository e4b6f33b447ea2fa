// A file on a web server whose size and version are known already: it is opened by the first read, and the network need
// not be there until then.

import { LlmError } from "../errors";
import { abortable } from "./abort";
import type { ByteRange, ByteSource } from "./byte-source";
import type { CachedFile } from "./cache-directory";
import type { HttpOptions } from "./http-client";
import { openHttp } from "./http-source";
import { isUnreachable, type Patience } from "./retry";

export class LaterSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly version: string;
  readonly #options: HttpOptions;
  readonly #opening: Partial<Patience>;
  #source: Promise<ByteSource> | undefined;

  /** @param opening How patient the first request is, where that differs from later ones. */
  constructor({ url, version, size }: CachedFile, options: HttpOptions, opening: Partial<Patience>) {
    this.name = url;
    this.size = size;
    this.version = version;
    this.#options = options;
    this.#opening = opening;
  }

  async read(range: ByteRange, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    signal?.throwIfAborted();
    this.#source ??= this.#open();
    const source = await abortable(this.#source, signal).catch((error: unknown) => {
      throw isUnreachable(error) ? this.#unreachable(range, error) : error;
    });
    return source.read(range, signal);
  }

  /** One opening for all reads that wait; after a failure the next read tries again. Ends with the options' signal. */
  async #open(): Promise<ByteSource> {
    try {
      const source = await openHttp(this.name, this.#options, this.#opening);
      if (source.version === this.version && source.size === this.size) return source;
      throw new LlmError(
        "bytes-changed",
        `${this.name}: the cache holds a part of version ${this.version} (${this.size} bytes), but the server now has ` +
          `${source.version} (${source.size} bytes). Load it again.`,
      );
    } catch (error) {
      this.#source = undefined;
      throw error;
    }
  }

  #unreachable({ start, end }: ByteRange, error: LlmError): LlmError {
    const message = `${error.message}. Bytes ${start} to ${end} are not in the cache: connect to the network and try again.`;
    return new LlmError(error.code, message, { cause: error.cause });
  }
}
