// What response headers say of the file behind them.

import type { ByteRange } from "./byte-source";

export interface ContentRange {
  readonly range: ByteRange;
  /** Of the whole file. */
  readonly size: number;
}

/** "bytes 0-99/1000" as range and size; undefined when it is absent, hidden by CORS, or says less than that. */
export function contentRangeOf(headers: Headers): ContentRange | undefined {
  const match = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(headers.get("Content-Range")?.trim() ?? "");
  if (match === null) return undefined;
  const [start, last, size] = [Number(match[1]), Number(match[2]), Number(match[3])];
  return start <= last && last < size && Number.isSafeInteger(size) ? { range: { start, end: last + 1 }, size } : undefined;
}

/** The length of the whole body as it will be read; undefined when it is not told, or told of a compressed form. */
export function contentLengthOf(headers: Headers): number | undefined {
  const length = headers.get("Content-Length") ?? "";
  const isCompressed = (headers.get("Content-Encoding") ?? "identity") !== "identity";
  return /^\d+$/.test(length) && !isCompressed ? Number(length) : undefined;
}

/**
 * What changes when the file does: the strong ETag, else what there is of a weak one and the date. Last-Modified is the
 * one of the two that a browser shows without the server's leave (CORS).
 */
export function versionOf(headers: Headers): string | undefined {
  const etag = headers.get("ETag");
  if (etag !== null && !etag.startsWith("W/")) return etag;
  const parts = [etag, headers.get("Last-Modified")].filter((part) => part !== null);
  return parts.length > 0 ? parts.join(" ") : undefined;
}

/** Retry-After in milliseconds from `now`, given in seconds or as a date. */
export function retryAfterMsOf(headers: Headers, now: number = Date.now()): number | undefined {
  const value = headers.get("Retry-After");
  if (value === null) return undefined;
  const delayMs = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - now;
  return Number.isNaN(delayMs) ? undefined : Math.max(0, delayMs);
}
