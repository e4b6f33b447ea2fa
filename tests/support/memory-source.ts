// A byte source over bytes in memory that remembers what was read, and fails loudly on a range that its file does not have.
import type { ByteRange, ByteSource } from "../../src/bytes/byte-source";

export interface MemorySource extends ByteSource {
  readonly reads: readonly ByteRange[];
}

/** `size` may be larger than the bytes there are, for files too large to hold: only what is read must be there. */
export function memorySource(bytes: Uint8Array, { name = "memory.bin", size = bytes.length } = {}): MemorySource {
  const reads: ByteRange[] = [];
  return {
    name,
    size,
    reads,
    async read({ start, end }, signal) {
      signal?.throwIfAborted();
      const isInside = Number.isInteger(start) && Number.isInteger(end) && 0 <= start && start <= end && end <= bytes.length;
      if (!isInside) throw new Error(`read outside the file: [${start}, ${end}) of ${bytes.length} bytes`);
      reads.push({ start, end });
      return new Uint8Array(bytes.slice(start, end));
    },
  };
}
