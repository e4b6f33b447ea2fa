// The typed values of GGUF's key-value metadata.
import type { HeaderReader } from "./gguf-header-reader";
import type { MetadataValue } from "./tensor-directory";

const MAX_STRING_BYTES = 16 * 1024 * 1024; // some files carry a whole tokenizer.json; Qwen2.5's has 4.8 MB
const MAX_ARRAY_LENGTH = 4_000_000; // the largest vocabularies have 262,144 tokens and twice as many merges
const ARRAY_TYPE = 9;
const STRING_TYPE = 8;
const BOOLEAN_TYPE = 7;

interface NumberType {
  readonly bytes: number;
  readonly read: (reader: HeaderReader) => number | bigint;
}

const NUMBER_TYPES: ReadonlyMap<number, NumberType> = new Map<number, NumberType>([
  [0, { bytes: 1, read: (reader) => reader.uint8() }],
  [1, { bytes: 1, read: (reader) => reader.int8() }],
  [2, { bytes: 2, read: (reader) => reader.uint16() }],
  [3, { bytes: 2, read: (reader) => reader.int16() }],
  [4, { bytes: 4, read: (reader) => reader.uint32() }],
  [5, { bytes: 4, read: (reader) => reader.int32() }],
  [6, { bytes: 4, read: (reader) => reader.float32() }],
  [10, { bytes: 8, read: (reader) => reader.uint64() }],
  [11, { bytes: 8, read: (reader) => reader.int64() }],
  [12, { bytes: 8, read: (reader) => reader.float64() }],
]);

/**
 * A value with the type in front of it.
 *
 * @throws LlmError "bad-file" | "bytes-truncated" | "unsupported".
 */
export function readMetadataValue(reader: HeaderReader): MetadataValue {
  const type = reader.uint32();
  if (type === ARRAY_TYPE) return readArray(reader);
  if (type === STRING_TYPE) return reader.string(MAX_STRING_BYTES);
  if (type === BOOLEAN_TYPE) return reader.boolean();
  return numberType(reader, type).read(reader);
}

function readArray(reader: HeaderReader): MetadataValue {
  const type = reader.uint32();
  const length = reader.count("array length", MAX_ARRAY_LENGTH);
  if (type === ARRAY_TYPE) throw reader.error("unsupported", "an array of arrays");
  if (type === STRING_TYPE) return readItems(reader, { length, minBytes: 8, read: () => reader.string(MAX_STRING_BYTES) });
  if (type === BOOLEAN_TYPE) return readItems(reader, { length, minBytes: 1, read: () => reader.boolean() });
  return readNumbers(reader, numberType(reader, type), length);
}

function readItems<T>(
  reader: HeaderReader,
  { length, minBytes, read }: { readonly length: number; readonly minBytes: number; readonly read: () => T },
): T[] {
  reader.require(length * minBytes);
  return Array.from({ length }, read);
}

function readNumbers(reader: HeaderReader, { bytes, read }: NumberType, length: number): Float64Array {
  reader.require(length * bytes);
  const numbers = new Float64Array(length);
  for (let index = 0; index < length; index++) {
    const value = read(reader);
    if (typeof value === "bigint") throw reader.error("unsupported", `element ${index} is ${value}, expected less than 2^53 in an array`);
    numbers[index] = value;
  }
  return numbers;
}

function numberType(reader: HeaderReader, type: number): NumberType {
  const found = NUMBER_TYPES.get(type);
  if (found === undefined) throw reader.error("bad-file", `value type ${type}, expected 0 to 12`);
  return found;
}
