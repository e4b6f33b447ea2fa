// A File or Blob in the page: what a visitor dropped or picked.

import { LlmError } from "../errors";
import { abortable } from "./abort";
import { allocate } from "./byte-range";
import type { ByteEventListener, ByteRange, ByteSource } from "./byte-source";

export interface BlobOptions {
  /** For messages; a File brings its own. */
  readonly name?: string;
  readonly onEvent?: ByteEventListener;
}

/** Browsers watch the file behind a File: reading one that was changed or removed since it was picked fails. */
export function openBlob(blob: Blob, options: BlobOptions = {}): ByteSource {
  const file = blob instanceof File ? blob : undefined;
  const name = options.name ?? file?.name ?? "a Blob";
  const source = { name, size: blob.size, ...(file !== undefined && { version: String(file.lastModified) }) };
  const read = async (range: ByteRange, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> => {
    const bytes = allocate(source, range);
    signal?.throwIfAborted();
    const part = await abortable(contentOf(blob.slice(range.start, range.end), name), signal);
    if (part.byteLength !== bytes.length) {
      throw new LlmError("bytes-truncated", `${name}: ${part.byteLength} bytes came of the ${bytes.length} from ${range.start} on`);
    }
    options.onEvent?.({ type: "bytes-received", source: name, bytes: part.byteLength, origin: "local" });
    return new Uint8Array(part);
  };
  return { ...source, read };
}

async function contentOf(blob: Blob, name: string): Promise<ArrayBuffer> {
  try {
    return await blob.arrayBuffer();
  } catch (cause) {
    throw new LlmError("bytes-changed", `${name}: the file was changed, moved or removed since it was opened. Choose it again.`, { cause });
  }
}
