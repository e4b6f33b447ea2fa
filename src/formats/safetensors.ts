// Reads one safetensors file: 8 bytes of header length, a JSON header, then the tensors' bytes without a gap. Everything that the
// header says is checked, as strictly as the format's reference implementation does, before a tensor can be read.
import type { ByteSource } from "../bytes/byte-source";
import { LlmError } from "../errors";
import { quoted, shortened } from "../quoted";
import { isSafetensorsType, SAFETENSORS_BLOCKS } from "./safetensors-types";
import { parseStrictJson } from "./strict-json";
import { directoryOf, formatShape, type StoredTensor, type TensorDirectory } from "./tensor-directory";
import { isCount, MAX_TENSOR_COUNT, tensorByteLength } from "./tensor-extent";

const LENGTH_BYTES = 8;
const MAX_HEADER_BYTES = 25_000_000; // some 120 bytes a tensor: twice what the largest models have if they came in one file
const FIRST_READ_BYTES = 64 * 1024; // holds the header of a model of 500 tensors, which then costs one request and not two
const MAX_DIMENSIONS = 8; // 3-D convolutions have 5; the engine itself wants 1 or 2

/**
 * The tensors of one safetensors file; reads its header only.
 *
 * @throws LlmError "bad-file" | "bytes-truncated" | "unsupported" (an element type that we do not know), what `source` throws, and
 * the signal's reason when aborted.
 */
export async function readSafetensors(
  source: ByteSource,
  { signal }: { readonly signal?: AbortSignal | undefined } = {},
): Promise<TensorDirectory> {
  const { header, dataStart } = await readHeader(source, signal);
  const entries = parseHeader(header, source.name);
  const stored: StoredTensor[] = [];
  for (const [name, entry] of entries.tensors) stored.push(statedTensor(name, entry, source, dataStart));
  // Readers may not count on the header's order; an empty tensor goes before the one that starts where it does.
  stored.sort((a, b) => a.range.start - b.range.start || a.range.end - b.range.end);
  refuseGaps(stored, source, dataStart);
  return directoryOf(stored, { format: "safetensors", name: source.name, metadata: entries.metadata });
}

async function readHeader(source: ByteSource, signal: AbortSignal | undefined): Promise<{ header: Uint8Array; dataStart: number }> {
  if (source.size < LENGTH_BYTES) {
    throw new LlmError(
      "bytes-truncated",
      `${source.name}: ${source.size} bytes, expected at least the ${LENGTH_BYTES} of a safetensors header`,
    );
  }
  const first = await source.read({ start: 0, end: Math.min(source.size, FIRST_READ_BYTES) }, signal);
  const headerBytes = new DataView(first.buffer, first.byteOffset).getBigUint64(0, true);
  if (headerBytes > BigInt(MAX_HEADER_BYTES)) {
    throw new LlmError(
      "bad-file",
      `${source.name}: a header of ${headerBytes} bytes, expected at most ${MAX_HEADER_BYTES}. Is it a safetensors file?`,
    );
  }
  const dataStart = LENGTH_BYTES + Number(headerBytes);
  if (dataStart > source.size) {
    throw new LlmError(
      "bytes-truncated",
      `${source.name}: the header ends at byte ${dataStart}, but the file has ${source.size}. Download it again.`,
    );
  }
  const isWhole = dataStart <= first.length;
  const header = isWhole ? first.subarray(LENGTH_BYTES, dataStart) : await source.read({ start: LENGTH_BYTES, end: dataStart }, signal);
  return { header, dataStart };
}

interface HeaderEntries {
  readonly tensors: readonly (readonly [name: string, entry: unknown])[];
  readonly metadata: ReadonlyMap<string, string>;
}

function parseHeader(header: Uint8Array, fileName: string): HeaderEntries {
  if (header[0] !== 0x7b) throw new LlmError("bad-file", `${fileName}: the header does not begin with "{". Is it a safetensors file?`);
  let value: unknown;
  try {
    value = parseStrictJson(new TextDecoder("utf-8", { fatal: true }).decode(header));
  } catch (cause) {
    throw new LlmError("bad-file", `${fileName}: the header is not the JSON of a safetensors file`, { cause });
  }
  const entries = Object.entries(value as object); // it begins with "{"
  const tensors = entries.filter(([name]) => name !== "__metadata__");
  if (tensors.length > MAX_TENSOR_COUNT) {
    throw new LlmError("bad-file", `${fileName}: ${tensors.length} tensors, expected at most ${MAX_TENSOR_COUNT}`);
  }
  const metadata = entries.find(([name]) => name === "__metadata__")?.[1] ?? {};
  return { tensors, metadata: parseMetadata(metadata, fileName) };
}

function parseMetadata(value: unknown, fileName: string): ReadonlyMap<string, string> {
  const metadata = new Map<string, string>();
  if (!isRecord(value)) throw new LlmError("bad-file", `${fileName}: __metadata__ is not an object`);
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== "string") throw new LlmError("bad-file", `${fileName}: "${shortened(key)}" in __metadata__ is not a string`);
    metadata.set(key, text);
  }
  return metadata;
}

function statedTensor(name: string, entry: unknown, source: ByteSource, dataStart: number): StoredTensor {
  const where = `"${shortened(name)}" in ${source.name}`;
  if (!isRecord(entry)) throw new LlmError("bad-file", `${where}: not an object with dtype, shape and data_offsets`);
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== "string") throw new LlmError("bad-file", `${where}: no dtype`);
  if (!isSafetensorsType(dtype)) {
    throw new LlmError("unsupported", `${where}: dtype ${shortened(dtype)}, expected one of ${Object.keys(SAFETENSORS_BLOCKS).join(", ")}`);
  }
  if (!isCountList(shape) || shape.length > MAX_DIMENSIONS) {
    throw new LlmError("bad-file", `${where}: shape ${quoted(shape)}, expected at most ${MAX_DIMENSIONS} whole sizes`);
  }
  if (!isCountList(offsets) || offsets.length !== 2) {
    throw new LlmError("bad-file", `${where}: data_offsets ${quoted(offsets)}, expected [start, end]`);
  }
  const [start = 0, end = 0] = offsets;
  const byteLength = tensorByteLength({ type: dtype, block: SAFETENSORS_BLOCKS[dtype], shape, where });
  if (end - start !== byteLength) {
    throw new LlmError(
      "bad-file",
      `${where}: data_offsets [${start}, ${end}] hold ${end - start} bytes, expected ${byteLength} (${dtype} ${formatShape(shape)})`,
    );
  }
  return { name, type: dtype, shape, source, range: { start: dataStart + start, end: dataStart + end } };
}

/** The format wants every byte behind the header to belong to exactly one tensor. `stored` is in file order. */
function refuseGaps(stored: readonly StoredTensor[], source: ByteSource, dataStart: number): void {
  let expectedStart = dataStart;
  for (const { name, range } of stored) {
    if (range.start !== expectedStart) {
      const fault = range.start < expectedStart ? "overlaps the tensor before it" : "leaves a gap before it";
      throw new LlmError(
        "bad-file",
        `"${shortened(name)}" in ${source.name}: begins at byte ${range.start}, expected ${expectedStart}: it ${fault}`,
      );
    }
    expectedStart = range.end;
  }
  if (expectedStart > source.size) {
    throw new LlmError(
      "bytes-truncated",
      `${source.name}: the tensors end at byte ${expectedStart}, but the file has ${source.size}. Download it again.`,
    );
  }
  if (expectedStart < source.size) {
    throw new LlmError("bad-file", `${source.name}: ${source.size - expectedStart} bytes after the last tensor, expected none`);
  }
}

function isCountList(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every(isCount);
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
