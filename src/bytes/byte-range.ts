// Arithmetic on byte ranges that every source shares: the check before a read, and the cut into parts.

import { assert } from "../assert";
import { LlmError } from "../errors";
import type { ByteRange, ByteSource } from "./byte-source";

/**
 * The room for one read, after a check that the source holds the range.
 *
 * @throws LlmError "bytes-truncated" where the range ends past the source, "out-of-memory" where there is no room.
 */
export function allocate(source: Pick<ByteSource, "name" | "size">, { start, end }: ByteRange): Uint8Array<ArrayBuffer> {
  const isRange = Number.isSafeInteger(start) && Number.isSafeInteger(end) && start >= 0 && end >= start;
  assert(isRange, `[${start}, ${end}) is no byte range`);
  if (end > source.size) {
    throw new LlmError("bytes-truncated", `${source.name}: bytes ${start} to ${end} were asked for, but it ends at ${source.size}`);
  }
  try {
    return new Uint8Array(end - start);
  } catch (cause) {
    throw new LlmError("out-of-memory", `${source.name}: no memory for a read of ${end - start} bytes`, { cause });
  }
}

/** `range` cut at every multiple of `partBytes` of the file, in order; nothing for an empty range. */
export function splitRange({ start, end }: ByteRange, partBytes: number): ByteRange[] {
  const parts: ByteRange[] = [];
  for (let from = start; from < end; ) {
    const to = Math.min(end, (Math.floor(from / partBytes) + 1) * partBytes);
    parts.push({ start: from, end: to });
    from = to;
  }
  return parts;
}
