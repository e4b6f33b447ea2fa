// A source behind a cache: what is there is read from it, and only the rest from the source, which then is there too.

import { allocate, splitRange } from "./byte-range";
import type { ByteEventListener, ByteRange, ByteSource } from "./byte-source";
import type { CacheEntry } from "./cache-directory";
import { forEachGated, Gate } from "./gate";

const CELL_BYTES = 4 << 20; // the most that a file of the cache holds, and that a crash loses; also one HTTP request
const GRAIN_BYTES = 16 << 10; // missing ranges widen to this, so that small reads side by side share a file
const PIECES_AT_ONCE = 6; // as many as HTTP requests run at once; each holds up to a cell beside the read's own bytes

/** A part of a read, and the cached range that holds it, if one does. */
export interface ReadPiece extends ByteRange {
  readonly extent: ByteRange | undefined;
}

/** Cuts `range` into pieces that lie in a cached extent each and pieces that lie in none, in order and without gaps. */
export function planRead({ start, end }: ByteRange, extents: readonly ByteRange[]): ReadPiece[] {
  const pieces: ReadPiece[] = [];
  for (let from = start; from < end; ) {
    const holding = extents.filter((extent) => extent.start <= from && from < extent.end);
    if (holding.length > 0) {
      const extent = holding.reduce((longest, next) => (next.end > longest.end ? next : longest));
      pieces.push({ start: from, end: Math.min(end, extent.end), extent });
    } else {
      const nextStart = Math.min(end, ...extents.filter((extent) => extent.start > from).map((extent) => extent.start));
      pieces.push(...splitRange({ start: from, end: nextStart }, CELL_BYTES).map((part) => ({ ...part, extent: undefined })));
    }
    from = pieces.at(-1)?.end ?? end;
  }
  return pieces;
}

export class CachedSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly version?: string;
  readonly #source: ByteSource;
  readonly #entry: CacheEntry;
  readonly #onEvent: ByteEventListener | undefined;
  readonly #gate = new Gate(PIECES_AT_ONCE);
  #isFull = false;
  #hasWarned = false;

  /** @param entry The cache's entry for exactly this state of `source`. */
  constructor(source: ByteSource, entry: CacheEntry, onEvent: ByteEventListener | undefined) {
    this.name = source.name;
    this.size = source.size;
    if (source.version !== undefined) this.version = source.version;
    this.#source = source;
    this.#entry = entry;
    this.#onEvent = onEvent;
  }

  async read(range: ByteRange, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = allocate(this, range);
    signal?.throwIfAborted();
    await forEachGated(this.#gate, planRead(range, this.#entry.extents), signal, async (piece, pieceSignal) => {
      const part = (await this.#fromCache(piece)) ?? (await this.#fromSource(piece, pieceSignal));
      pieceSignal.throwIfAborted();
      bytes.set(part, piece.start - range.start);
    });
    return bytes;
  }

  evict(range: ByteRange): Promise<void> {
    return this.#entry.drop(range);
  }

  leaveToHashes(): void {
    this.#source.leaveToHashes?.();
  }

  async #fromCache(piece: ReadPiece): Promise<Uint8Array | undefined> {
    const part = piece.extent && (await this.#entry.read(piece.extent, piece));
    if (part) this.#onEvent?.({ type: "bytes-received", source: this.name, bytes: part.length, origin: "cache" });
    return part;
  }

  async #fromSource(piece: ByteRange, signal: AbortSignal): Promise<Uint8Array> {
    const start = Math.floor(piece.start / GRAIN_BYTES) * GRAIN_BYTES;
    const end = Math.min(this.size, Math.ceil(piece.end / GRAIN_BYTES) * GRAIN_BYTES);
    const bytes = await this.#source.read({ start, end }, signal);
    if (!this.#isFull) await this.#keep({ start, end }, bytes);
    return bytes.subarray(piece.start - start, piece.end - start);
  }

  /** Before the bytes are handed out, whose owner may transfer or change them. */
  async #keep(range: ByteRange, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    try {
      await this.#entry.write(range, bytes);
    } catch (error) {
      this.#isFull ||= error instanceof DOMException && error.name === "QuotaExceededError";
      if (this.#hasWarned) return;
      this.#hasWarned = true;
      this.#onEvent?.({ type: "cache-unavailable", source: this.name, reason: String(error) });
    }
  }
}
