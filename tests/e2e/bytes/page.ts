// What the page of these tests runs: reads through the real fetch and the real OPFS, told as plain data.
import type { ByteEvent, ByteRange } from "../../../src/bytes/byte-source";
import { sha256Hex } from "../../../src/bytes/hash";
import { openHttp } from "../../../src/bytes/http-source";
import { type CachedHttpOptions, cacheEntries, deleteCacheEntry, openCachedHttp } from "../../../src/bytes/opfs-cache";

export interface Visit {
  readonly size: number;
  readonly version: string | undefined;
  /** SHA-256 of each range read. */
  readonly digests: readonly string[];
  readonly events: readonly ByteEvent[];
  readonly ms: number;
}

const page = {
  /** Opens the file and reads the ranges, all at once. */
  async visit(url: string, ranges: readonly ByteRange[], options: CachedHttpOptions & { readonly cache: boolean }): Promise<Visit> {
    const events: ByteEvent[] = [];
    const open = options.cache ? openCachedHttp : openHttp;
    const start = performance.now();
    const source = await open(url, { backoffMs: 1, ...options, onEvent: (event) => events.push(event) });
    const parts = await Promise.all(ranges.map((range) => source.read(range)));
    const ms = performance.now() - start;
    return { size: source.size, version: source.version, digests: await Promise.all(parts.map(sha256Hex)), events, ms };
  },

  /** Begins to read the whole file, aborts after `ms`, and tells what the read was rejected with. */
  async abortedVisit(url: string, ms: number): Promise<unknown> {
    const source = await openHttp(url);
    const abort = new AbortController();
    setTimeout(() => abort.abort("enough"), ms);
    return source.read({ start: 0, end: source.size }, abort.signal).then(
      () => "it was read",
      (reason: unknown) => reason,
    );
  },

  cacheEntries,
  deleteCacheEntry,
};

export type BytesPage = typeof page;

Object.assign(globalThis, { bytesPage: page });
