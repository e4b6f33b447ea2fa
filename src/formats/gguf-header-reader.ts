// Reads a GGUF header from front to back. It says nowhere how long it is, so that it is read through growing ranges: few requests,
// and never the whole file. No length in it is believed before it fits the file and its limit.
import type { ByteSource } from "../bytes/byte-source";
import { LlmError, type LlmErrorCode } from "../errors";
import { TimeSlice } from "../time-slice";
import { decodeOrNull, decodeTogether } from "./gguf-strings";
import type { MetadataText } from "./tensor-directory";

const LOT_ITEMS = 1024; // of an array: a millisecond of short strings
const LOT_BYTES = 64 * 1024; // of strings, about
const FIRST_RANGE_BYTES = 256 * 1024; // each further range is twice as long, up to the largest: Qwen2.5's 5.9 MB take five
const MAX_RANGE_BYTES = 2 * 1024 * 1024; // what is read too far is held until somebody asks for it
const MAX_HEADER_BYTES = 64 * 1024 * 1024; // the header grows with the vocabulary: 152,000 tokens and their merges are 5.9 MB

/** The bytes read so far end before `end`: more must be read, and the entry parsed again. Never leaves this file. */
class WindowEnd extends Error {
  readonly end: number;

  constructor(end: number) {
    super("the window ends here");
    this.end = end;
  }
}

export class HeaderReader {
  readonly #source: ByteSource;
  readonly #signal: AbortSignal | undefined;
  readonly #limit: number;
  readonly #text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }); // a token may begin with U+FEFF
  readonly #slice: TimeSlice;
  #window: DataView<ArrayBuffer> = new DataView(new ArrayBuffer(0));
  #bytes = new Uint8Array(); // the window's
  #windowStart = 0;
  #position = 0;
  #rangeBytes = FIRST_RANGE_BYTES;
  #what = "header";

  constructor(source: ByteSource, signal?: AbortSignal) {
    this.#source = source;
    this.#signal = signal;
    this.#slice = new TimeSlice(signal);
    this.#limit = Math.min(source.size, MAX_HEADER_BYTES);
  }

  /** Position in the file of the next byte. */
  get position(): number {
    return this.#position;
  }

  /**
   * What `parse` makes of the next bytes. It may run several times, from the same position, each time with more bytes at hand: all it may
   * change is this reader's position. `what` names the entry in errors.
   *
   * @throws LlmError "bad-file" | "bytes-truncated", and what the source throws.
   */
  async entry<T>(what: string, parse: (reader: HeaderReader) => T): Promise<T> {
    this.#what = what;
    const start = this.#position;
    for (;;) {
      try {
        return parse(this);
      } catch (error) {
        if (!(error instanceof WindowEnd)) throw error;
        this.#position = start;
        await this.#extend(error.end);
      }
    }
  }

  /**
   * The `length` items of an array, as `entry` reads them, in lots: the page runs between two, and where more bytes must be read one lot
   * alone is read again. Nothing is allocated ahead of the items. `readLot` gives up to `count` of them, one at least.
   */
  async items<T>(what: string, length: number, readLot: (start: number, count: number) => readonly T[]): Promise<T[]> {
    const items: T[] = [];
    while (items.length < length) {
      const start = items.length;
      for (const item of await this.entry(what, () => readLot(start, Math.min(LOT_ITEMS, length - start)))) items.push(item);
      if (this.#slice.isOver) await this.#slice.next();
    }
    return items;
  }

  /** A copy of what was read from `start` on, which is past the header; the reader's own goes with the reader. */
  readAhead(start: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.#window.buffer.slice(start - this.#windowStart));
  }

  /** Makes sure that the header can hold `byteCount` bytes more; called before anything is allocated for them. */
  require(byteCount: number): void {
    const end = this.#position + byteCount;
    if (end > MAX_HEADER_BYTES) throw this.error("bad-file", `goes on to byte ${end}, expected headers of at most ${MAX_HEADER_BYTES}`);
    if (end > this.#source.size) {
      throw this.error("bytes-truncated", `goes on to byte ${end}, but the file has ${this.#source.size}. Download it again.`);
    }
    if (end > this.#windowStart + this.#window.byteLength) throw new WindowEnd(end);
  }

  /** The entry that is being read and its file, for messages. */
  get where(): string {
    return `${this.#what} in ${this.#source.name}`;
  }

  error(code: LlmErrorCode, message: string, options?: { readonly cause?: unknown }): LlmError {
    return new LlmError(code, `${this.where}: ${message}`, options);
  }

  uint8(): number {
    return this.#window.getUint8(this.#take(1));
  }

  int8(): number {
    return this.#window.getInt8(this.#take(1));
  }

  uint16(): number {
    return this.#window.getUint16(this.#take(2), true);
  }

  int16(): number {
    return this.#window.getInt16(this.#take(2), true);
  }

  uint32(): number {
    return this.#window.getUint32(this.#take(4), true);
  }

  int32(): number {
    return this.#window.getInt32(this.#take(4), true);
  }

  uint64(): number | bigint {
    const offset = this.#take(8);
    const high = this.#window.getUint32(offset + 4, true);
    if (high < 2 ** 21) return high * 2 ** 32 + this.#window.getUint32(offset, true); // a bigint for each string's length takes its time
    return this.#window.getBigUint64(offset, true);
  }

  int64(): number | bigint {
    return numberIfExact(this.#window.getBigInt64(this.#take(8), true));
  }

  float32(): number {
    return this.#window.getFloat32(this.#take(4), true);
  }

  float64(): number {
    return this.#window.getFloat64(this.#take(8), true);
  }

  boolean(): boolean {
    const value = this.uint8();
    if (value > 1) throw this.error("bad-file", `boolean ${value}, expected 0 or 1`);
    return value === 1;
  }

  /** An unsigned 64-bit count, length or offset of at most `limit`; `noun` names it in errors. */
  count(noun: string, limit: number): number {
    const value = this.uint64();
    if (value > limit) throw this.error("bad-file", `${noun} ${value}, expected at most ${limit}`);
    return Number(value);
  }

  string(maxBytes: number): string {
    const text = this.text(maxBytes);
    if (typeof text === "string") return text;
    throw this.error("bad-file", `the string before byte ${this.#position} is not UTF-8`);
  }

  /** A string, or a copy of its bytes where they are not UTF-8. */
  text(maxBytes: number): MetadataText {
    const byteLength = this.count("string length", maxBytes);
    const start = this.#take(byteLength);
    const bytes = this.#bytes.subarray(start, start + byteLength);
    return decodeOrNull(bytes, this.#text) ?? bytes.slice();
  }

  /** Up to `count` strings of an array, fewer where they are long. */
  texts(count: number, maxBytes: number): MetadataText[] {
    const start = this.#position;
    const windowOffset = start - this.#windowStart;
    const byteLengths: number[] = [];
    while (byteLengths.length < count && this.#position - start < LOT_BYTES) {
      const byteLength = this.count("string length", maxBytes);
      this.#take(byteLength);
      byteLengths.push(byteLength);
    }
    const strings = decodeTogether(this.#bytes.subarray(windowOffset), byteLengths, this.#text);
    if (strings !== null) return strings;
    this.#position = start;
    return byteLengths.map(() => this.text(maxBytes));
  }

  /** The offset in the window of the next `byteCount` bytes, which are thereby read. */
  #take(byteCount: number): number {
    this.require(byteCount);
    const offset = this.#position - this.#windowStart;
    this.#position += byteCount;
    return offset;
  }

  /** Reads on to `end` at least; what lies before the current position is let go. */
  async #extend(end: number): Promise<void> {
    const windowEnd = this.#windowStart + this.#window.byteLength;
    const range = { start: windowEnd, end: Math.min(Math.max(end, windowEnd + this.#rangeBytes), this.#limit) };
    const next = await this.#source.read(range, this.#signal);
    const kept = new Uint8Array(this.#window.buffer, this.#position - this.#windowStart);
    const bytes = new Uint8Array(kept.length + next.length);
    bytes.set(kept);
    bytes.set(next, kept.length);
    this.#bytes = bytes;
    this.#window = new DataView(bytes.buffer);
    this.#windowStart = this.#position;
    this.#rangeBytes = Math.min(MAX_RANGE_BYTES, 2 * this.#rangeBytes);
  }
}

function numberIfExact(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
