// Moves a file's blocks into the canonical layouts without decoding them, for layouts that hold the same codes.
import type { TensorType } from "../formats/tensor-directory";
import { GROUP, type WeightFormat } from "../weight-format";
import { K_HEADER_BYTES, kMinimum, kScale } from "./dequantise";
import { bfloatValue, halfBits, halfOfBfloat, halfValue, isHalfNonFinite } from "./half";
import type { PackedRows } from "./packed-rows";
import { minimumOfQ4, tooLargeForHalf, ValueProblem } from "./quantise";

/** Writes the row that begins at byte `at` of `stored` as row `row` of `packed`. @throws ValueProblem */
export type RowRepacker = (stored: DataView, at: number, packed: PackedRows, row: number) => void;

export function repackerOf(type: TensorType, format: WeightFormat): RowRepacker | undefined {
  return REPACKERS[`${type}>${format}`];
}

const REPACKERS: Readonly<Partial<Record<`${TensorType}>${WeightFormat}`, RowRepacker>>> = {
  "F32>f32": copyRow,
  "F16>f16": copyRow,
  "BF16>f16": bfloatsToHalves,
  "Q8_0>q8": splitQ8_0,
  "Q4_0>q4": splitQ4_0,
  "Q4_0>q4m": splitQ4_0WithMinimum,
  "Q4_1>q4m": splitQ4_1,
  "Q4_0>q8": widenQ4_0,
  "Q5_0>q8": widenQ5_0,
  "Q4_K>q4m": expandQ4_K,
};

function copyRow(stored: DataView, at: number, { codes, codeStride, columns, format }: PackedRows, row: number): void {
  const rowBytes = columns * (format === "f32" ? 4 : 2);
  codes.set(new Uint8Array(stored.buffer, stored.byteOffset + at, rowBytes), row * codeStride);
}

function bfloatsToHalves(stored: DataView, at: number, { codes, codeStride, columns }: PackedRows, row: number): void {
  const halves = new Uint16Array(codes.buffer, row * codeStride, columns);
  for (let i = 0; i < columns; i++) {
    const bfloat = stored.getUint16(at + 2 * i, true);
    const bits = halfOfBfloat(bfloat);
    if (isHalfNonFinite(bits)) throw tooLargeForHalf(bfloatValue(bfloat));
    halves[i] = bits;
  }
}

function splitQ8_0(
  stored: DataView,
  at: number,
  { codeWords, codeStride, scaleHalves, scaleStride, columns }: PackedRows,
  row: number,
): void {
  let wordAt = (row * codeStride) / 4;
  for (let group = 0; group < columns / GROUP; group++, at += 34) {
    scaleHalves[row * scaleStride + group] = readScale(stored, at);
    for (let byte = 2; byte < 34; byte += 4) codeWords[wordAt++] = stored.getUint32(at + byte, true);
  }
}

function splitQ4_0(
  stored: DataView,
  at: number,
  { codeWords, codeStride, scaleHalves, scaleStride, columns }: PackedRows,
  row: number,
): void {
  let wordAt = (row * codeStride) / 4;
  for (let group = 0; group < columns / GROUP; group++, at += 18) {
    scaleHalves[row * scaleStride + group] = readScale(stored, at);
    for (let byte = 2; byte < 18; byte += 4) codeWords[wordAt++] = stored.getUint32(at + byte, true);
  }
}

function splitQ4_0WithMinimum(stored: DataView, at: number, packed: PackedRows, row: number): void {
  const { codeWords, codeStride, scaleHalves, scaleStride, columns } = packed;
  let wordAt = (row * codeStride) / 4;
  let scaleAt = row * scaleStride;
  for (let group = 0; group < columns / GROUP; group++, at += 18) {
    const scaleBits = readScale(stored, at);
    scaleHalves[scaleAt++] = scaleBits;
    scaleHalves[scaleAt++] = minimumOfQ4(scaleBits);
    for (let byte = 2; byte < 18; byte += 4) codeWords[wordAt++] = stored.getUint32(at + byte, true);
  }
}

function splitQ4_1(
  stored: DataView,
  at: number,
  { codeWords, codeStride, scaleHalves, scaleStride, columns }: PackedRows,
  row: number,
): void {
  let wordAt = (row * codeStride) / 4;
  let scaleAt = row * scaleStride;
  for (let group = 0; group < columns / GROUP; group++, at += 20) {
    scaleHalves[scaleAt++] = readScale(stored, at);
    scaleHalves[scaleAt++] = readScale(stored, at + 2);
    for (let byte = 4; byte < 20; byte += 4) codeWords[wordAt++] = stored.getUint32(at + byte, true);
  }
}

function widenQ4_0(
  stored: DataView,
  at: number,
  { signedCodes, codeStride, scaleHalves, scaleStride, columns }: PackedRows,
  row: number,
): void {
  let codeAt = row * codeStride;
  for (let group = 0; group < columns / GROUP; group++, at += 18, codeAt += GROUP) {
    scaleHalves[row * scaleStride + group] = readScale(stored, at);
    for (let i = 0; i < 16; i++) {
      const pair = stored.getUint8(at + 2 + i);
      signedCodes[codeAt + i] = (pair & 15) - 8;
      signedCodes[codeAt + i + 16] = (pair >> 4) - 8;
    }
  }
}

function widenQ5_0(
  stored: DataView,
  at: number,
  { signedCodes, codeStride, scaleHalves, scaleStride, columns }: PackedRows,
  row: number,
): void {
  let codeAt = row * codeStride;
  for (let group = 0; group < columns / GROUP; group++, at += 22, codeAt += GROUP) {
    scaleHalves[row * scaleStride + group] = readScale(stored, at);
    const fifthBits = stored.getUint32(at + 2, true);
    for (let i = 0; i < 16; i++) {
      const pair = stored.getUint8(at + 6 + i);
      signedCodes[codeAt + i] = ((pair & 15) | (((fifthBits >>> i) & 1) << 4)) - 16;
      signedCodes[codeAt + i + 16] = ((pair >> 4) | (((fifthBits >>> (i + 16)) & 1) << 4)) - 16;
    }
  }
}

/** The codes stay. The products of the 6-bit scale and minimum with the block's two scales are rounded to one half each. */
function expandQ4_K(
  stored: DataView,
  at: number,
  { codeWords, codeStride, scaleHalves, scaleStride, columns }: PackedRows,
  row: number,
): void {
  let wordAt = (row * codeStride) / 4;
  let scaleAt = row * scaleStride;
  for (let column = 0; column < columns; column += 256, at += 144) {
    const blockScale = halfValue(stored.getUint16(at, true));
    const blockMinimum = halfValue(stored.getUint16(at + 2, true));
    for (let group = 0; group < 8; group++) {
      scaleHalves[scaleAt++] = scaleOf(blockScale * kScale(stored, at, group));
      scaleHalves[scaleAt++] = scaleOf(-blockMinimum * kMinimum(stored, at, group));
    }
    // 32 bytes hold two groups: one in the low nibbles, the next in the high nibbles, weights in order.
    for (let codes = at + K_HEADER_BYTES; codes < at + 144; codes += 32, wordAt += 8) {
      for (let word = 0; word < 4; word++) {
        const firstHalf = stored.getUint32(codes + word * 4, true);
        const secondHalf = stored.getUint32(codes + word * 4 + 16, true);
        codeWords[wordAt + word] = (firstHalf & 0x0f0f0f0f) | ((secondHalf & 0x0f0f0f0f) << 4);
        codeWords[wordAt + word + 4] = ((firstHalf >>> 4) & 0x0f0f0f0f) | (secondHalf & 0xf0f0f0f0);
      }
    }
  }
}

/** The bits of a scale stored as a half. */
function readScale(stored: DataView, at: number): number {
  const bits = stored.getUint16(at, true);
  if (isHalfNonFinite(bits)) throw new ValueProblem(`a block's scale is ${halfValue(bits)}`);
  return bits;
}

/** The bits of a computed scale. */
function scaleOf(value: number): number {
  const bits = halfBits(value);
  if (isHalfNonFinite(bits)) throw new ValueProblem(`a group's scale or minimum, ${value}, does not fit a 16-bit float`);
  return bits;
}
