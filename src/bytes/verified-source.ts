// A source whose bytes are checked against hashes before anyone sees them: SHA-256 of chunks, of which each read takes whole ones.
//
// It stands in front of the cache, not behind it: so bytes that a disk lost, or that were cached before there were hashes, are found
// as well. What the network brought wrong is therefore in the cache by then. It is evicted, and asked for once more; if that is wrong
// too, evicted again, so that the next attempt asks the network. A source that cannot evict is read again as it is. (Without a
// cache, an HttpSource keeps its first 64 KiB and a stream all of its file: opening them anew gets those from the server.)
import { assert } from "../assert";
import { LlmError } from "../errors";
import { abortable, linkAbort } from "./abort";
import { allocate, splitRange } from "./byte-range";
import type { ByteRange, ByteSource } from "./byte-source";
import { forEachGated, Gate } from "./gate";
import { Murmur3 } from "./murmur3";

export interface FileHashes {
  /** Of the file. */
  readonly bytes: number;
  /** Of each chunk; the last one may be shorter. */
  readonly chunkBytes: number;
  /** The SHA-256 digests of all chunks one after another, each cut to `DIGEST_BYTES`. */
  readonly sha256: Uint8Array;
}

// Nobody finds other bytes for a digest of 128 bits, and every page loads all digests before its model.
export const DIGEST_BYTES = 16;

export interface VerifyOptions {
  /** Told of bytes that were wrong and are read once more. If they are wrong again, the read fails. */
  readonly onMismatch?: (range: ByteRange) => void;
}

// What was read but not yet asked for, at the edges of reads. Pieces of 256 KiB that are read in any order leave up to 16 MiB of a
// 40 MB file's chunks of 64 KiB half used. A load in stages leaves 6 chunks: its pieces follow the file nearly everywhere.
const EDGE_BYTES = 16 << 20;

const DIGESTS_AT_ONCE = 8; // each on a copy of its chunk, on other threads: 40 MB take 0.14 s of one core

/**
 * `source`, with every byte checked. Reads throw "bad-hash" for a chunk that is wrong twice.
 *
 * @throws LlmError "bad-hash" when the file's size is another, "unsupported" where the page may not use WebCrypto.
 */
export function verifySource(source: ByteSource, hashes: FileHashes, options: VerifyOptions = {}): ByteSource {
  const { bytes, chunkBytes, sha256 } = hashes;
  const isWhole = sha256.length === DIGEST_BYTES * Math.ceil(bytes / chunkBytes);
  assert(isWhole, `${sha256.length} bytes of digests for a file of ${bytes} bytes in chunks of ${chunkBytes}`);
  if (globalThis.crypto?.subtle === undefined) {
    throw new LlmError(
      "unsupported",
      `${source.name}: its bytes cannot be checked, because this page has no WebCrypto. It must be served over https or from localhost.`,
    );
  }
  if (source.size !== bytes) throw mismatch(source.name, `the file has ${source.size} bytes instead of the ${bytes}`);
  return new VerifiedSource(source, hashes, options);
}

interface Piece extends ByteRange {
  /** Whole chunks that hold it. */
  readonly source: ChunkRun | EdgeChunk;
}

class VerifiedSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly version?: string;
  readonly contentHash: string;
  readonly #source: ByteSource;
  readonly #hashes: FileHashes;
  readonly #options: VerifyOptions;
  readonly #edges: EdgeChunks;
  /** By the index of each of its chunks. */
  readonly #underWay = new Map<number, ChunkRun>();

  constructor(source: ByteSource, hashes: FileHashes, options: VerifyOptions) {
    this.name = source.name;
    this.size = source.size;
    if (source.version !== undefined) this.version = source.version;
    this.contentHash = `${hashes.bytes}-${hashes.chunkBytes}-${new Murmur3().bytes(hashes.sha256).digest()}`;
    this.#source = source;
    source.leaveToHashes?.();
    this.#hashes = hashes;
    this.#options = options;
    this.#edges = new EdgeChunks(Math.floor(EDGE_BYTES / hashes.chunkBytes));
  }

  async read(range: ByteRange, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    if (range.end > this.size) allocate(this, range); // which throws
    signal?.throwIfAborted();
    const link = linkAbort(signal);
    const pieces = this.#plan(range, link.signal);
    try {
      const takes = pieces.map((piece) => this.#take(piece, link.signal));
      for (const take of takes) take.catch(link.abort);
      await Promise.allSettled(takes); // nothing runs on after a failure
      link.signal.throwIfAborted();
      const parts = await Promise.all(takes);
      const bytes = allocate(this, range); // only now: a read that waits holds its bytes once
      for (const [index, { start }] of pieces.entries()) bytes.set(parts[index] ?? [], start - range.start);
      return bytes;
    } finally {
      link.unlink();
      for (const { source } of pieces) if (source instanceof ChunkRun) this.#leave(source, link.signal);
    }
  }

  /** Where each part of `range` comes from. Reads of what is neither kept nor under way are started before anything is awaited. */
  #plan(range: ByteRange, signal: AbortSignal): Piece[] {
    const pieces: Piece[] = [];
    for (let start = range.start; start < range.end; start = pieces.at(-1)?.end ?? range.end) {
      const source = this.#find(this.#chunkAt(start)) ?? this.#start(start, range.end, signal);
      if (source instanceof ChunkRun) source.enter();
      pieces.push({ start, end: Math.min(range.end, source.end), source });
    }
    return pieces;
  }

  #find(chunk: number): ChunkRun | EdgeChunk | undefined {
    const run = this.#underWay.get(chunk);
    return this.#edges.get(chunk) ?? (run?.signal.aborted ? undefined : run);
  }

  /** Starts one read of the whole chunks from the one at `start` on, to the first that needs none or to `end`. */
  #start(start: number, end: number, signal: AbortSignal): ChunkRun {
    const first = this.#chunkAt(start);
    let last = first;
    while (this.#range(last).end < end && this.#find(last + 1) === undefined) last += 1;
    const range = { start: this.#range(first).start, end: this.#range(last).end };
    const run = new ChunkRun(range, signal, () => this.#load(range, signal));
    for (let chunk = first; chunk <= last; chunk++) this.#underWay.set(chunk, run);
    return run;
  }

  async #take(piece: Piece, signal: AbortSignal): Promise<Uint8Array> {
    const { source } = piece;
    const isShared = source instanceof ChunkRun && source.signal !== signal;
    try {
      const bytes = await (isShared ? abortable(source.bytes, signal) : source.bytes);
      this.#keepEdges(piece, bytes);
      return bytes.subarray(piece.start - source.start, piece.end - source.start);
    } catch (error) {
      if (isShared && source.isGivenUp && !signal.aborted) return this.read(piece, signal);
      throw error;
    }
  }

  #keepEdges({ start, end, source }: Piece, bytes: Uint8Array): void {
    for (const chunk of new Set([this.#chunkAt(start), this.#chunkAt(end - 1)])) {
      const range = this.#range(chunk);
      const servedBytes = Math.min(end, range.end) - Math.max(start, range.start);
      this.#edges.serve(chunk, servedBytes, { ...range, bytes: bytes.subarray(range.start - source.start, range.end - source.start) });
    }
  }

  #leave(run: ChunkRun, signal: AbortSignal): void {
    if (run.signal === signal) {
      for (const { start } of splitRange(run, this.#hashes.chunkBytes)) {
        const chunk = this.#chunkAt(start);
        if (this.#underWay.get(chunk) === run) this.#underWay.delete(chunk);
      }
    }
    run.leave();
  }

  /** The bytes of whole chunks, checked. What is wrong is read once more. */
  async #load(range: ByteRange, signal: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = await this.#source.read(range, signal);
    const wrong = await this.#findWrong(range, bytes, signal);
    if (wrong === null) return bytes;
    this.#options.onMismatch?.(wrong);
    await this.#source.evict?.(wrong);
    const again = await this.#source.read(wrong, signal);
    const wrongAgain = await this.#findWrong(wrong, again, signal);
    if (wrongAgain !== null) {
      await this.#source.evict?.(wrongAgain);
      throw mismatch(this.name, `bytes ${wrongAgain.start} to ${wrongAgain.end} came twice, and are not those`);
    }
    bytes.set(again, wrong.start - range.start);
    return bytes;
  }

  /** From the first chunk whose digest is wrong to the last. */
  async #findWrong(range: ByteRange, bytes: Uint8Array<ArrayBuffer>, signal: AbortSignal): Promise<ByteRange | null> {
    const wrong: ByteRange[] = [];
    await forEachGated(new Gate(DIGESTS_AT_ONCE), splitRange(range, this.#hashes.chunkBytes), signal, async (chunk) => {
      const digest = await crypto.subtle.digest("SHA-256", bytes.subarray(chunk.start - range.start, chunk.end - range.start));
      const digestStart = this.#chunkAt(chunk.start) * DIGEST_BYTES;
      const isRight = new Uint8Array(digest, 0, DIGEST_BYTES).every((byte, index) => byte === this.#hashes.sha256[digestStart + index]);
      if (!isRight) wrong.push(chunk);
    });
    if (wrong.length === 0) return null;
    return { start: Math.min(...wrong.map(({ start }) => start)), end: Math.max(...wrong.map(({ end }) => end)) };
  }

  #chunkAt(position: number): number {
    return Math.floor(position / this.#hashes.chunkBytes);
  }

  #range(chunk: number): ByteRange {
    const { chunkBytes } = this.#hashes;
    return { start: chunk * chunkBytes, end: Math.min(this.size, (chunk + 1) * chunkBytes) };
  }
}

/** Chunks side by side that one read started to load. Others that need some of them wait for it. */
class ChunkRun implements ByteRange {
  readonly start: number;
  readonly end: number;
  /** Of the read that started it. */
  readonly signal: AbortSignal;
  readonly bytes: Promise<Uint8Array<ArrayBuffer>>;
  /** Whether it failed because its read ended early, so that others must load the chunks themselves. */
  isGivenUp = false;
  #userCount = 0;

  constructor({ start, end }: ByteRange, signal: AbortSignal, load: () => Promise<Uint8Array<ArrayBuffer>>) {
    this.start = start;
    this.end = end;
    this.signal = signal;
    this.bytes = load().catch((error: unknown) => {
      this.isGivenUp = signal.aborted;
      throw error;
    });
  }

  /** Whoever enters leaves. */
  enter(): void {
    this.#userCount += 1;
  }

  /** The last one frees the bytes, of which all have their copies: a collector may come to them late. */
  leave(): void {
    this.#userCount -= 1;
    if (this.#userCount > 0) return;
    const free = ({ buffer }: Uint8Array<ArrayBuffer>) => void buffer.transfer?.(0); // Chrome 114, Firefox 122, Safari 17.4
    this.bytes.then(free, () => undefined); // a failure was thrown where it was awaited
  }
}

interface EdgeChunk extends ByteRange {
  readonly bytes: Uint8Array;
}

/**
 * Chunks that reads took a part of, for the neighbours that need the rest: tensors lie back to back. Kept until all is taken, or
 * until there are too many: then the one that was used the longest ago goes.
 */
class EdgeChunks {
  readonly #capacity: number;
  readonly #chunks = new Map<number, EdgeChunk & { readonly unservedBytes: number }>(); // the latest used is last

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get(chunk: number): EdgeChunk | undefined {
    return this.#chunks.get(chunk);
  }

  /** Notes that a read took so many bytes of the chunk. Parts that are taken twice count twice: then it goes early, and is read again. */
  serve(chunk: number, servedBytes: number, edge: EdgeChunk): void {
    const kept = this.#chunks.get(chunk);
    const unservedBytes = (kept?.unservedBytes ?? edge.bytes.length) - servedBytes;
    this.#chunks.delete(chunk);
    if (unservedBytes <= 0) return;
    this.#chunks.set(chunk, { ...(kept ?? { ...edge, bytes: edge.bytes.slice() }), unservedBytes });
    for (const oldest of this.#chunks.keys()) if (this.#chunks.size > this.#capacity) this.#chunks.delete(oldest);
  }
}

function mismatch(name: string, found: string): LlmError {
  return new LlmError(
    "bad-hash",
    `${name}: ${found} that its hashes were made for. The server has another file, or a proxy altered it on the way: ` +
      "load it again. If that does not help, tell the maker of the page.",
  );
}
