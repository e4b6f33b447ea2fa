// Reads the bytes that recipes name. Adjacent ranges share a request.
import type { ByteRange, ByteSource } from "../bytes/byte-source";
import type { MatrixRecipe, RecipePart, VectorRecipe } from "./model-weights";
import { type PackPart, type PackTask, packVector } from "./pack";
import { freeBuffers } from "./pack-message";

/** The matrix's bytes, ready to be packed. Throws what the source throws. */
export async function readMatrix({ rows, columns, format, parts }: MatrixRecipe, signal?: AbortSignal): Promise<PackTask> {
  return { rows, columns, format, parts: await readParts(parts, signal) };
}

/** @throws LlmError "bad-weights" when a value is not a finite number; what the source throws */
export async function readVector(
  { length, parts }: Pick<VectorRecipe, "length" | "parts">,
  signal?: AbortSignal,
): Promise<Float32Array<ArrayBuffer>> {
  return packVector(length, await readParts(parts, signal));
}

/** A run of adjacent file bytes. Small gaps count as adjacent: tensors are padded to multiples of 32 bytes and more. */
interface Span extends ByteRange {
  readonly source: ByteSource;
}

const MAX_GAP_BYTES = 256;

/** The bytes of each part, in separate buffers. Throws what the sources throw. */
export async function readParts(parts: readonly RecipePart[], signal?: AbortSignal): Promise<PackPart[]> {
  const spans = spansOf(parts);
  const bytesOfSpans = await Promise.all(spans.map(({ source, start, end }) => source.read({ start, end }, signal)));
  const read = parts.map(({ tensor, runs }) => {
    const { source, range } = tensor;
    const index = spans.findIndex((span) => span.source === source && span.start <= range.start && range.end <= span.end);
    const { start = 0, end = 0 } = spans[index] ?? {};
    const bytes = bytesOfSpans[index] ?? new Uint8Array();
    const isAlone = start === range.start && end === range.end;
    return {
      where: `"${tensor.name}" in ${source.name}`,
      type: tensor.type,
      bytes: isAlone ? bytes : bytes.slice(range.start - start, range.end - start),
      runs,
    };
  });
  const taken = new Set(read.map(({ bytes }) => bytes));
  freeBuffers(bytesOfSpans.filter((bytes) => !taken.has(bytes)));
  return read;
}

function spansOf(parts: readonly RecipePart[]): Span[] {
  const ranges = parts.map(({ tensor: { source, range } }) => ({ source, ...range })).sort((a, b) => a.start - b.start);
  const spans: Span[] = [];
  for (const range of ranges) {
    const index = spans.findLastIndex(({ source }) => source === range.source);
    const last = spans[index];
    if (last && range.start - last.end <= MAX_GAP_BYTES) spans[index] = { ...last, end: Math.max(last.end, range.end) };
    else spans.push(range);
  }
  return spans;
}
