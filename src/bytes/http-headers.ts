// What response headers say of the file behind them.

import { LlmError } from "../errors";
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
 * What changes when the file does: the ETag, else the date, which a browser shows without the server's leave (CORS). A weak ETag counts as
 * the strong one: servers that compress on the fly weaken the tags of some answers, and ranges are asked for uncompressed.
 */
export function versionOf(headers: Headers): string | undefined {
  return headers.get("ETag")?.replace(/^W\//, "") ?? headers.get("Last-Modified") ?? undefined;
}

/** A state of a file, as a response tells it. */
export interface FileState {
  readonly version: string | undefined;
  readonly size: number | undefined;
  /** Its date, where that is old enough to tell states apart: one that was written in the last minute may be written again with the same date. */
  readonly modified: string | undefined;
}

const SETTLED_MS = 60_000; // RFC 9110, 8.8.2.2

export function fileStateOf(headers: Headers, size: number | undefined, now = Date.now()): FileState {
  const modified = headers.get("Last-Modified") ?? undefined;
  const answeredMs = Date.parse(headers.get("Date") ?? "") || now;
  const isSettled = modified !== undefined && answeredMs - Date.parse(modified) >= SETTLED_MS;
  return { version: versionOf(headers), size, modified: isSettled ? modified : undefined };
}

/** The state of a file that was opened, or is cached. */
export function stateOf({ version, size, modified }: Partial<FileState>): FileState {
  return { version, size, modified };
}

/** Servers of one CDN may tag one file differently: length and date then tell that it is one. */
export function isSameFile(a: FileState, b: FileState): boolean {
  if (a.size !== b.size) return false;
  return (
    a.version === b.version || (a.version !== undefined && b.version !== undefined && a.modified !== undefined && a.modified === b.modified)
  );
}

const MOST_QUOTED = 200; // characters of a header

/** The error for a file that was `before` and is `now`. */
export function changedError(name: string, before: FileState, now: FileState): LlmError {
  const told = ({ version, size }: FileState) => `${version?.slice(0, MOST_QUOTED) ?? "without ETag or date"} of ${size ?? "untold"} bytes`;
  const isTagAlone = before.size === now.size && before.version !== undefined && now.version !== undefined;
  const advice = isTagAlone
    ? "Load it again. If that does not help, several servers tag the file differently: whoever publishes it must have them send one ETag, or one Last-Modified."
    : "Load it again.";
  const found = `it was ${told(before)}, now it is ${told(now)}`;
  return new LlmError("bytes-changed", `${name}: the file changed while it was read: ${found}. ${advice}`);
}

/** Retry-After in milliseconds from `now`, given in seconds or as a date. */
export function retryAfterMsOf(headers: Headers, now: number = Date.now()): number | undefined {
  const value = headers.get("Retry-After");
  if (value === null) return undefined;
  const delayMs = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - now;
  return Number.isNaN(delayMs) ? undefined : Math.max(0, delayMs);
}
