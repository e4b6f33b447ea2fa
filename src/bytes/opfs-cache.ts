// A cache in OPFS, the browser's private file system, in front of any source: fills range by range, survives a reload.

import { LlmError } from "../errors";
import type { ByteEventListener, ByteSource } from "./byte-source";
import { CacheDirectory, type CachedFile, type CacheEntryInfo, isAbsent } from "./cache-directory";
import { CachedSource } from "./cached-source";
import { absoluteUrl, type HttpOptions } from "./http-client";
import { isSameFile, stateOf } from "./http-headers";
import { openHttp } from "./http-source";
import { isRefused } from "./http-status";
import { LaterSource } from "./later-source";
import { isUnreachable, type Patience } from "./retry";

export type { CacheEntryInfo };

export interface CacheLocation {
  /** The directory that holds the cache, if not "crescendo-cache" at the root of OPFS. */
  readonly directory?: () => Promise<FileSystemDirectoryHandle>;
}

export interface CacheOptions extends CacheLocation {
  readonly onEvent?: ByteEventListener;
}

export interface CachedHttpOptions extends HttpOptions, CacheLocation {
  /** The URL names one content for ever, such as a commit's: once all of it is cached, the network is not asked for changes. */
  readonly immutable?: boolean;
}

// With a cached copy at hand, nobody waits long for word of a newer one.
const REVALIDATION: Partial<Patience> = { maxAttempts: 1, stallMs: 5_000 };

/**
 * `source` behind the cache. Its name, version and size are the key; other versions in the cache are dropped. Where there
 * is no OPFS, or nothing tells the source's versions apart, the source itself (event `cache-unavailable`).
 */
export async function cached(source: ByteSource, options: CacheOptions = {}): Promise<ByteSource> {
  const uncached = (reason: string) => {
    options.onEvent?.({ type: "cache-unavailable", source: source.name, reason });
    return source;
  };
  const { name, size, version, modified } = source;
  if (version === undefined) return uncached("the server shows neither ETag nor Last-Modified: a changed file would go unseen");
  try {
    const cache = await openCache(options);
    return new CachedSource(
      source,
      await cache.open({ url: name, version, size, ...(modified !== undefined && { modified }) }),
      options.onEvent,
    );
  } catch (error) {
    return uncached(String(error));
  }
}

/**
 * The file at `url` behind the cache. Whether a cached copy is still the server's is asked with one small request. If
 * network or server do not answer, the copy is used as it is (event `offline-cache-used`), and only what is missing from
 * it needs the network. A copy of another version than the server's is dropped (event `cache-outdated`).
 *
 * @throws As `openHttp`; "not-found" offline too, where the server had no such file. Reads throw "bytes-changed" where the
 * copy turns out to be of an older version.
 */
export async function openCachedHttp(url: string, options: CachedHttpOptions = {}): Promise<ByteSource> {
  const name = absoluteUrl(url);
  const copy = await findCopy(name, options);
  const isCopied = copy !== undefined && !isAbsent(copy);
  // A part of an immutable file that the server by now has under another version cannot be told to belong to the rest: so that is asked first.
  if (isCopied && options.immutable && (await isWholeCopy(copy, options))) return openCopy(copy, options, {});
  try {
    const source = await openHttp(url, isCopied ? { ...options, headBytes: 1 } : options, copy && REVALIDATION);
    return await cached(isCopied ? matched(source, copy, options.onEvent) : source, options);
  } catch (error) {
    // A refusal may be a token past its time, which costs no copy; where there is none it is how some buckets say that there is no such file.
    const isAbsence = (error instanceof LlmError && error.code === "not-found") || (isRefused(error) && !isCopied);
    if (isAbsence) await rememberAbsence(name, options);
    if (copy === undefined || !isUnreachable(error)) throw error;
    options.onEvent?.({ type: "offline-cache-used", source: copy.url, reason: error.message });
    return openCopy(copy, options, REVALIDATION);
  }
}

/** `source`, under the copy's version where the copy is of the same file; an event where it only seems to be another, or is. */
function matched(source: ByteSource, copy: CachedFile, onEvent: ByteEventListener | undefined): ByteSource {
  const { name, size, version, modified } = source;
  if (version === undefined || (version === copy.version && size === copy.size)) return source;
  if (isSameFile(stateOf(source), stateOf(copy))) {
    onEvent?.({ type: "etag-differs", source: name, first: copy.version, found: version });
    const leaveToHashes = () => source.leaveToHashes?.();
    return {
      name,
      size,
      version: copy.version,
      ...(modified && { modified }),
      leaveToHashes,
      read: (range, signal) => source.read(range, signal),
    };
  }
  onEvent?.({ type: "cache-outdated", source: name, reason: `${describeState(copy)} here, ${describeState(source)} on the server` });
  return source;
}

function describeState({ version, size }: Pick<ByteSource, "version" | "size">): string {
  return `version ${version} of ${size} bytes`;
}

/** What the cache holds. @throws LlmError "unsupported" where there is no OPFS. */
export async function cacheEntries(location: CacheLocation = {}): Promise<CacheEntryInfo[]> {
  return (await openCache(location)).list();
}

/** Drops what the cache holds of `url`; false if another tab is writing it just now. @throws As `cacheEntries`. */
export async function deleteCacheEntry(url: string, location: CacheLocation = {}): Promise<boolean> {
  return (await openCache(location)).delete(absoluteUrl(url));
}

async function openCache(location: CacheLocation): Promise<CacheDirectory> {
  return new CacheDirectory(await (location.directory ?? opfsDirectory)());
}

async function opfsDirectory(): Promise<FileSystemDirectoryHandle> {
  return (await opfsRoot()).getDirectoryHandle("crescendo-cache", { create: true });
}

/** @throws LlmError "unsupported" where there is no OPFS. */
export async function opfsRoot(): Promise<FileSystemDirectoryHandle> {
  const storage = globalThis.navigator?.storage;
  if (storage?.getDirectory === undefined) {
    throw new LlmError("unsupported", "no cache: this browser, or a page without https, has no origin-private file system (OPFS)");
  }
  return storage.getDirectory();
}

/** @param opening How patiently the network is asked once something is missing. */
async function openCopy(copy: CachedFile, options: CachedHttpOptions, opening: Partial<Patience>): Promise<ByteSource> {
  if (isAbsent(copy)) throw new LlmError("not-found", `${copy.url}: the server had no such file, or refused it, when it was last asked`);
  return cached(new LaterSource(copy, { ...options, headBytes: 1 }, opening), options);
}

async function findCopy(url: string, location: CacheLocation): Promise<CachedFile | undefined> {
  try {
    return await (await openCache(location)).find(url);
  } catch {
    return undefined; // `cached` meets the same failure next, and tells of it
  }
}

async function isWholeCopy(copy: CachedFile, location: CacheLocation): Promise<boolean> {
  try {
    return await (await openCache(location)).isWhole(copy);
  } catch {
    return false; // `cached` meets the same failure next, and tells of it
  }
}

async function rememberAbsence(url: string, options: CachedHttpOptions): Promise<void> {
  try {
    await (await openCache(options)).openAbsent(url);
  } catch (error) {
    options.onEvent?.({ type: "cache-unavailable", source: url, reason: String(error) });
  }
}
