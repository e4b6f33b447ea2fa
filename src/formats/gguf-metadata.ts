// The typed values of GGUF's key-value metadata.
import type { HeaderReader } from "./gguf-header-reader";
import type { MetadataText, MetadataValue } from "./tensor-directory";

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

/** An array whose items follow. */
interface ArrayStart {
  readonly itemType: number;
  readonly length: number;
}

/**
 * A value with the type in front of it; `what` names it in errors.
 *
 * @throws LlmError "bad-file" | "bytes-truncated" | "unsupported", what the source throws, and the signal's reason when aborted.
 */
export async function readMetadataValue(reader: HeaderReader, what: string): Promise<MetadataValue> {
  const found = await reader.entry(what, readStart);
  return typeof found === "object" && !(found instanceof Uint8Array) ? readItems(reader, what, found) : found;
}

function readStart(reader: HeaderReader): MetadataText | number | bigint | boolean | ArrayStart {
  const type = reader.uint32();
  if (type === ARRAY_TYPE) return readArrayStart(reader);
  if (type === STRING_TYPE) return reader.text(MAX_STRING_BYTES);
  if (type === BOOLEAN_TYPE) return reader.boolean();
  return numberType(reader, type).read(reader);
}

function readArrayStart(reader: HeaderReader): ArrayStart {
  const itemType = reader.uint32();
  const length = reader.count("array length", MAX_ARRAY_LENGTH);
  if (itemType === ARRAY_TYPE) throw reader.error("unsupported", "an array of arrays");
  reader.require(length * minBytes(reader, itemType));
  return { itemType, length };
}

function minBytes(reader: HeaderReader, itemType: number): number {
  if (itemType === STRING_TYPE) return 8;
  return itemType === BOOLEAN_TYPE ? 1 : numberType(reader, itemType).bytes;
}

async function readItems(reader: HeaderReader, what: string, { itemType, length }: ArrayStart): Promise<MetadataValue> {
  if (itemType === STRING_TYPE) return reader.items(what, length, (_, count) => reader.texts(count, MAX_STRING_BYTES));
  if (itemType === BOOLEAN_TYPE) return reader.items(what, length, (_, count) => Array.from({ length: count }, () => reader.boolean()));
  const { read } = numberType(reader, itemType);
  const numbers = await reader.items(what, length, (start, count) =>
    Array.from({ length: count }, (_, index) => {
      const value = read(reader);
      if (typeof value === "number") return value;
      throw reader.error("unsupported", `element ${start + index} is ${value}, expected less than 2^53 in an array`);
    }),
  );
  return new Float64Array(numbers);
}

function numberType(reader: HeaderReader, type: number): NumberType {
  const found = NUMBER_TYPES.get(type);
  if (found === undefined) throw reader.error("bad-file", `value type ${type}, expected 0 to 12`);
  return found;
}
