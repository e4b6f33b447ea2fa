// Decodes an array's strings many at a time: a vocabulary's are short, and one call to the decoder costs as much as fifty of their characters.

const LENGTH_BYTES = 8; // in front of each string
const SEPARATOR = 0x0a; // ends a character that a string leaves unfinished, so that no two strings make up one between them

/** The strings that lie in `bytes` one after another, each behind its length; null where one of them is not UTF-8. */
export function decodeTogether(bytes: Uint8Array, byteLengths: readonly number[], decoder: TextDecoder): string[] | null {
  const joined = new Uint8Array(byteLengths.reduce((sum, byteLength) => sum + byteLength + 1, 0));
  const unitCounts: number[] = []; // UTF-16
  let from = 0;
  let to = 0;
  for (const byteLength of byteLengths) {
    from += LENGTH_BYTES;
    let unitCount = 0;
    for (const end = from + byteLength; from < end; from++) {
      const byte = bytes[from] ?? 0;
      joined[to++] = byte;
      if ((byte & 0xc0) !== 0x80) unitCount += byte < 0xf0 ? 1 : 2; // a character's first byte; those of four bytes are two units
    }
    joined[to++] = SEPARATOR;
    unitCounts.push(unitCount);
  }
  const text = decodeOrNull(joined, decoder);
  if (text === null) return null;
  let start = 0;
  return unitCounts.map((unitCount) => {
    const string = text.slice(start, start + unitCount);
    start += unitCount + 1;
    return string;
  });
}

/** Null where `bytes` are not UTF-8. `decoder` is a fatal one. */
export function decodeOrNull(bytes: Uint8Array, decoder: TextDecoder): string | null {
  try {
    return decoder.decode(bytes);
  } catch (error) {
    if (error instanceof TypeError) return null; // what a fatal decoder throws
    throw error;
  }
}
