// A file whose header was read a little too far, since a GGUF says nowhere where it ends: what came with it is given to those who ask for these
// bytes, and asked for no second time.
import { allocate } from "../bytes/byte-range";
import type { ByteRange, ByteSource } from "../bytes/byte-source";

interface ReadAhead {
  readonly start: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** `source`, of which some bytes are here. They are let go of when as many have been given out as `tensors` have of them. */
export function withReadAhead(source: ByteSource, ahead: ReadAhead, tensors: Iterable<{ readonly range: ByteRange }>): ByteSource {
  const end = ahead.start + ahead.bytes.length;
  let tensorBytes = 0;
  for (const { range } of tensors) tensorBytes += Math.max(0, Math.min(range.end, end) - range.start);
  return tensorBytes === 0 ? source : new ReadAheadSource(source, ahead, tensorBytes);
}

class ReadAheadSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly version?: string;
  readonly contentHash?: string;
  readonly #source: ByteSource;
  readonly #start: number;
  #bytes: Uint8Array<ArrayBuffer>;
  #unservedBytes: number;

  constructor(source: ByteSource, { start, bytes }: ReadAhead, tensorBytes: number) {
    this.name = source.name;
    this.size = source.size;
    if (source.version !== undefined) this.version = source.version;
    if (source.contentHash !== undefined) this.contentHash = source.contentHash;
    this.#source = source;
    this.#start = start;
    this.#bytes = bytes;
    this.#unservedBytes = tensorBytes;
  }

  async read(range: ByteRange, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    const { start, end } = range;
    const from = start - this.#start;
    const here = from < 0 ? new Uint8Array() : this.#bytes.subarray(from, Math.max(from, end - this.#start));
    if (here.length === 0) return this.#source.read(range, signal);
    signal?.throwIfAborted();
    const rest = { start: start + here.length, end };
    const read = rest.start < end ? await this.#source.read(rest, signal) : new Uint8Array();
    const bytes = allocate(this, range);
    bytes.set(here);
    bytes.set(read, here.length);
    this.#serve(here.length);
    return bytes;
  }

  /** Parts that are asked for twice count twice: then others are read again. */
  #serve(count: number): void {
    this.#unservedBytes -= count;
    if (this.#unservedBytes <= 0) this.#bytes = new Uint8Array();
  }
}
