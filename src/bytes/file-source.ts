// A file on disk, in Node. Only the CLI and tests may import this: browsers have no node:fs.

import { type FileHandle, open, stat } from "node:fs/promises";
import { LlmError } from "../errors";
import { allocate, splitRange } from "./byte-range";
import type { ByteEventListener, ByteRange, ByteSource } from "./byte-source";

export interface FileOptions {
  readonly signal?: AbortSignal;
  readonly onEvent?: ByteEventListener;
}

const PART_BYTES = 16 << 20; // how far a read goes on after an abort; Node also reads less than 2 GiB at once

/**
 * Opens the file at `path`; it is held open only while a read runs. A later change of size or date is an error.
 *
 * @throws LlmError "not-found" where there is nothing, "fetch-failed" where there is no file that we may read.
 */
export async function openFile(path: string, options: FileOptions = {}): Promise<ByteSource> {
  options.signal?.throwIfAborted();
  const opened = await stat(path, { bigint: true }).catch((cause: unknown) => {
    throw unreadable(path, cause);
  });
  if (!opened.isFile()) throw new LlmError("fetch-failed", `${path}: not a file`);
  return new FileSource(path, { size: Number(opened.size), version: String(opened.mtimeNs) }, options.onEvent);
}

class FileSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly version: string;
  readonly #onEvent: ByteEventListener | undefined;

  constructor(path: string, file: { readonly size: number; readonly version: string }, onEvent: ByteEventListener | undefined) {
    this.name = path;
    this.size = file.size;
    this.version = file.version;
    this.#onEvent = onEvent;
  }

  async read(range: ByteRange, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = allocate(this, range);
    signal?.throwIfAborted();
    const file = await open(this.name).catch((cause: unknown) => {
      throw unreadable(this.name, cause);
    });
    try {
      for (const part of splitRange(range, PART_BYTES)) {
        signal?.throwIfAborted();
        await this.#fill(bytes.subarray(part.start - range.start, part.end - range.start), part.start, file);
      }
      await this.#check(file); // last, so that a change during the read is seen too
    } finally {
      await file.close();
    }
    this.#onEvent?.({ type: "bytes-received", source: this.name, bytes: bytes.length, origin: "local" });
    return bytes;
  }

  async #fill(target: Uint8Array, start: number, file: FileHandle): Promise<void> {
    for (let filled = 0; filled < target.length; ) {
      const { bytesRead } = await file.read(target, filled, target.length - filled, start + filled);
      if (bytesRead === 0) {
        await this.#check(file);
        throw new LlmError("bytes-truncated", `${this.name}: it ended at byte ${start + filled}, before ${start + target.length}`);
      }
      filled += bytesRead;
    }
  }

  async #check(file: FileHandle): Promise<void> {
    const { size, mtimeNs } = await file.stat({ bigint: true });
    if (Number(size) === this.size && String(mtimeNs) === this.version) return;
    throw new LlmError(
      "bytes-changed",
      `${this.name}: the file changed while it was read (${this.size} bytes then, ${size} now, or its date). Load it again.`,
    );
  }
}

function unreadable(path: string, cause: unknown): LlmError {
  const isAbsent = cause instanceof Error && "code" in cause && cause.code === "ENOENT";
  if (isAbsent) return new LlmError("not-found", `${path}: there is no such file`, { cause });
  return new LlmError("fetch-failed", `${path}: cannot be read (${cause instanceof Error ? cause.message : cause})`, { cause });
}
