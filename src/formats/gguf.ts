// Reads a GGUF file of version 2 or 3: a header of metadata and tensor entries, then the tensors' aligned bytes. Why this is our own
// reader stands in docs/decisions/0002-gguf-reader.md.
import type { ByteSource } from "../bytes/byte-source";
import { LlmError } from "../errors";
import { quoted, shortened } from "../quoted";
import { HeaderReader } from "./gguf-header-reader";
import { readMetadataValue } from "./gguf-metadata";
import { withReadAhead } from "./gguf-read-ahead";
import { GGUF_TENSOR_TYPES } from "./gguf-types";
import { directoryOf, type MetadataValue, type StoredTensor, type TensorDirectory } from "./tensor-directory";
import { isCount, MAX_TENSOR_COUNT, tensorByteLength } from "./tensor-extent";

const MAGIC = 0x46554747; // "GGUF", little-endian
const DEFAULT_ALIGNMENT = 32; // bytes
const MAX_ALIGNMENT = 1024 * 1024; // bytes: no machine's pages want more than a fraction of it
const MAX_METADATA_COUNT = 4096; // real files have 20 to 60 entries
const MAX_KEY_BYTES = 65_535; // the format's own limit
const MAX_TENSOR_NAME_BYTES = 64; // the format's own limit
const MAX_DIMENSIONS = 4; // the format's own limit

/**
 * The tensors and metadata of one GGUF file; reads its header only.
 *
 * @throws LlmError "bad-file" | "bytes-truncated"; "unsupported" for version 1, big-endian and split files and for tensor types that we do
 * not know; what `source` throws; and the signal's reason when aborted.
 */
export async function readGguf(
  source: ByteSource,
  { signal }: { readonly signal?: AbortSignal | undefined } = {},
): Promise<TensorDirectory> {
  const reader = new HeaderReader(source, signal);
  const { tensorCount, metadataCount } = await reader.entry("header", readCounts);
  const metadata = await readMetadata(reader, metadataCount);
  refuseSplit(metadata, source.name);
  const alignment = alignmentOf(metadata, source.name);
  const entries = await readTensorEntries(reader, tensorCount);
  const dataStart = Math.ceil(reader.position / alignment) * alignment;
  const stored = [...entries].map(([name, entry]) => placeTensor(name, entry, { source, dataStart, alignment }));
  stored.sort((a, b) => a.range.start - b.range.start || a.range.end - b.range.end);
  refuseOverlap(stored);
  const tensorSource = withReadAhead(source, { start: dataStart, bytes: reader.readAhead(dataStart) }, stored);
  const tensors = stored.map((tensor) => ({ ...tensor, source: tensorSource }));
  return directoryOf(tensors, { format: "gguf", name: source.name, metadata });
}

function readCounts(reader: HeaderReader): { tensorCount: number; metadataCount: number } {
  if (reader.uint32() !== MAGIC) throw reader.error("bad-file", `does not begin with "GGUF". Is it a GGUF file?`);
  const version = reader.uint32();
  if (version !== 0 && (version & 0xffff) === 0) throw reader.error("unsupported", "a big-endian file, expected a little-endian one");
  if (version === 1) throw reader.error("unsupported", "version 1, expected 2 or 3. Convert it with a current llama.cpp.");
  if (version !== 2 && version !== 3) throw reader.error("unsupported", `version ${version}, expected 2 or 3`);
  const tensorCount = reader.count("tensor count", MAX_TENSOR_COUNT);
  const metadataCount = reader.count("metadata count", MAX_METADATA_COUNT);
  return { tensorCount, metadataCount };
}

async function readMetadata(reader: HeaderReader, count: number): Promise<ReadonlyMap<string, MetadataValue>> {
  const metadata = new Map<string, MetadataValue>();
  for (let index = 0; index < count; index++) {
    const key = await reader.entry(`metadata key ${index}`, () => reader.string(MAX_KEY_BYTES));
    if (metadata.has(key)) throw reader.error("bad-file", `"${shortened(key)}" is there twice`);
    metadata.set(key, await readMetadataValue(reader, `metadata "${shortened(key)}"`));
  }
  return metadata;
}

interface TensorEntry {
  readonly type: string;
  readonly shape: readonly number[];
  readonly byteLength: number;
  /** Counted from the start of the data, not of the file. */
  readonly offset: number;
}

async function readTensorEntries(reader: HeaderReader, count: number): Promise<ReadonlyMap<string, TensorEntry>> {
  const entries = new Map<string, TensorEntry>();
  for (let index = 0; index < count; index++) {
    const name = await reader.entry(`tensor name ${index}`, () => reader.string(MAX_TENSOR_NAME_BYTES));
    if (entries.has(name)) throw reader.error("bad-file", `"${name}" is there twice`);
    entries.set(name, await reader.entry(`"${name}"`, readTensorEntry));
  }
  return entries;
}

function readTensorEntry(reader: HeaderReader): TensorEntry {
  const dimensionCount = reader.uint32();
  if (dimensionCount > MAX_DIMENSIONS) throw reader.error("bad-file", `${dimensionCount} dimensions, expected at most ${MAX_DIMENSIONS}`);
  const shape = Array.from({ length: dimensionCount }, () => reader.count("dimension", Number.MAX_SAFE_INTEGER)).reverse();
  const typeNumber = reader.uint32();
  const type = GGUF_TENSOR_TYPES.get(typeNumber);
  if (type === undefined) {
    throw reader.error("unsupported", `tensor type ${typeNumber}, which we do not know. Use a file in another quantisation.`);
  }
  const offset = reader.count("offset", Number.MAX_SAFE_INTEGER);
  const byteLength = tensorByteLength({ type: type.name, block: type.block, shape, where: reader.where });
  return { type: type.name, shape, byteLength, offset };
}

function refuseSplit(metadata: ReadonlyMap<string, MetadataValue>, fileName: string): void {
  const count = metadata.get("split.count");
  if (count === undefined || count === 0 || count === 1) return;
  throw new LlmError(
    "unsupported",
    `${fileName}: one of ${quoted(count)} files of a split model, expected a whole one. Join them with llama.cpp's llama-gguf-split --merge.`,
  );
}

function alignmentOf(metadata: ReadonlyMap<string, MetadataValue>, fileName: string): number {
  const alignment = metadata.get("general.alignment") ?? DEFAULT_ALIGNMENT;
  const isPowerOfTwo = isCount(alignment) && alignment > 0 && alignment <= MAX_ALIGNMENT && (alignment & (alignment - 1)) === 0;
  if (!isPowerOfTwo) {
    throw new LlmError(
      "bad-file",
      `general.alignment in ${fileName}: ${quoted(alignment)}, expected a power of two up to ${MAX_ALIGNMENT}`,
    );
  }
  return alignment;
}

function placeTensor(
  name: string,
  { type, shape, byteLength, offset }: TensorEntry,
  { source, dataStart, alignment }: { readonly source: ByteSource; readonly dataStart: number; readonly alignment: number },
): StoredTensor {
  const where = `"${name}" in ${source.name}`;
  if (offset % alignment !== 0) throw new LlmError("bad-file", `${where}: offset ${offset}, expected a multiple of ${alignment}`);
  const range = { start: dataStart + offset, end: dataStart + offset + byteLength };
  if (range.end > source.size) {
    throw new LlmError("bytes-truncated", `${where}: ends at byte ${range.end}, but the file has ${source.size}. Download it again.`);
  }
  return { name, type, shape, source, range };
}

/** `stored` is in file order. */
function refuseOverlap(stored: readonly StoredTensor[]): void {
  let earlier: StoredTensor | undefined;
  for (const tensor of stored) {
    if (earlier !== undefined && tensor.range.start < earlier.range.end) {
      throw new LlmError(
        "bad-file",
        `"${tensor.name}" in ${tensor.source.name}: begins at byte ${tensor.range.start}, inside "${earlier.name}" (to ${earlier.range.end})`,
      );
    }
    earlier = tensor;
  }
}
