// Decodes rows of every tensor type to f32, exactly as ggml defines the types. docs/weight-layouts.md has the layouts.
import type { TensorType } from "../formats/tensor-directory";
import { bfloatValue, halfValue } from "./half";

/** Decodes `count` elements (whole blocks) from byte `at` of `stored` into the start of `out`. */
export type Decoder = (stored: DataView, at: number, out: Float32Array, count: number) => void;

export const DECODERS: Readonly<Record<TensorType, Decoder>> = {
  F32: decodeF32,
  F16: decodeF16,
  BF16: decodeBF16,
  Q8_0: decodeQ8_0,
  Q4_0: decodeQ4_0,
  Q4_1: decodeQ4_1,
  Q5_0: decodeQ5_0,
  Q5_1: decodeQ5_1,
  Q4_K: decodeQ4_K,
  Q5_K: decodeQ5_K,
  Q6_K: decodeQ6_K,
};

function decodeF32(stored: DataView, at: number, out: Float32Array, count: number): void {
  for (let i = 0; i < count; i++) out[i] = stored.getFloat32(at + 4 * i, true);
}

function decodeF16(stored: DataView, at: number, out: Float32Array, count: number): void {
  for (let i = 0; i < count; i++) out[i] = halfValue(stored.getUint16(at + 2 * i, true));
}

function decodeBF16(stored: DataView, at: number, out: Float32Array, count: number): void {
  for (let i = 0; i < count; i++) out[i] = bfloatValue(stored.getUint16(at + 2 * i, true));
}

function decodeQ8_0(stored: DataView, at: number, out: Float32Array, count: number): void {
  for (let first = 0; first < count; first += 32, at += 34) {
    const scale = readHalf(stored, at);
    for (let i = 0; i < 32; i++) out[first + i] = scale * stored.getInt8(at + 2 + i);
  }
}

function decodeQ4_0(stored: DataView, at: number, out: Float32Array, count: number): void {
  for (let first = 0; first < count; first += 32, at += 18) {
    const scale = readHalf(stored, at);
    for (let i = 0; i < 16; i++) {
      const pair = stored.getUint8(at + 2 + i);
      out[first + i] = scale * ((pair & 15) - 8);
      out[first + i + 16] = scale * ((pair >> 4) - 8);
    }
  }
}

function decodeQ4_1(stored: DataView, at: number, out: Float32Array, count: number): void {
  for (let first = 0; first < count; first += 32, at += 20) {
    const scale = readHalf(stored, at);
    const minimum = readHalf(stored, at + 2);
    for (let i = 0; i < 16; i++) {
      const pair = stored.getUint8(at + 4 + i);
      out[first + i] = scale * (pair & 15) + minimum;
      out[first + i + 16] = scale * (pair >> 4) + minimum;
    }
  }
}

function decodeQ5_0(stored: DataView, at: number, out: Float32Array, count: number): void {
  for (let first = 0; first < count; first += 32, at += 22) {
    const scale = readHalf(stored, at);
    const fifthBits = stored.getUint32(at + 2, true);
    for (let i = 0; i < 16; i++) {
      const pair = stored.getUint8(at + 6 + i);
      out[first + i] = scale * (((pair & 15) | (((fifthBits >>> i) & 1) << 4)) - 16);
      out[first + i + 16] = scale * (((pair >> 4) | (((fifthBits >>> (i + 16)) & 1) << 4)) - 16);
    }
  }
}

function decodeQ5_1(stored: DataView, at: number, out: Float32Array, count: number): void {
  for (let first = 0; first < count; first += 32, at += 24) {
    const scale = readHalf(stored, at);
    const minimum = readHalf(stored, at + 2);
    const fifthBits = stored.getUint32(at + 4, true);
    for (let i = 0; i < 16; i++) {
      const pair = stored.getUint8(at + 8 + i);
      out[first + i] = scale * ((pair & 15) | (((fifthBits >>> i) & 1) << 4)) + minimum;
      out[first + i + 16] = scale * ((pair >> 4) | (((fifthBits >>> (i + 16)) & 1) << 4)) + minimum;
    }
  }
}

/** Bytes of a Q4_K or Q5_K block before its codes: two halves, then eight 6-bit scales and eight 6-bit minima in 12 bytes. */
export const K_HEADER_BYTES = 16;

/** The 6-bit scale of group `group` (0 … 7) of the Q4_K or Q5_K block at byte `at`. */
export function kScale(stored: DataView, at: number, group: number): number {
  const packed = at + 4 + group;
  if (group < 4) return stored.getUint8(packed) & 63;
  return (stored.getUint8(packed + 4) & 15) | ((stored.getUint8(packed - 4) >> 6) << 4);
}

/** The 6-bit minimum of group `group` of the block at byte `at`. */
export function kMinimum(stored: DataView, at: number, group: number): number {
  const packed = at + 8 + group;
  if (group < 4) return stored.getUint8(packed) & 63;
  return (stored.getUint8(packed) >> 4) | ((stored.getUint8(packed - 4) >> 6) << 4);
}

function decodeQ4_K(stored: DataView, at: number, out: Float32Array, count: number): void {
  for (let first = 0; first < count; first += 256, at += 144) {
    const blockScale = readHalf(stored, at);
    const blockMinimum = readHalf(stored, at + 2);
    for (let group = 0; group < 8; group++) {
      const scale = blockScale * kScale(stored, at, group);
      const minimum = blockMinimum * kMinimum(stored, at, group);
      const codes = at + K_HEADER_BYTES + (group >> 1) * 32; // shared by two groups: low nibbles, then high
      const shift = (group & 1) * 4;
      const to = first + group * 32;
      for (let i = 0; i < 32; i++) out[to + i] = scale * ((stored.getUint8(codes + i) >> shift) & 15) - minimum;
    }
  }
}

function decodeQ5_K(stored: DataView, at: number, out: Float32Array, count: number): void {
  for (let first = 0; first < count; first += 256, at += 176) {
    const blockScale = readHalf(stored, at);
    const blockMinimum = readHalf(stored, at + 2);
    const fifthBits = at + K_HEADER_BYTES; // bit `group` of byte i belongs to weight i of the group
    for (let group = 0; group < 8; group++) {
      const scale = blockScale * kScale(stored, at, group);
      const minimum = blockMinimum * kMinimum(stored, at, group);
      const codes = fifthBits + 32 + (group >> 1) * 32;
      const shift = (group & 1) * 4;
      const to = first + group * 32;
      for (let i = 0; i < 32; i++) {
        const code = ((stored.getUint8(codes + i) >> shift) & 15) | (((stored.getUint8(fifthBits + i) >> group) & 1) << 4);
        out[to + i] = scale * code - minimum;
      }
    }
  }
}

function decodeQ6_K(stored: DataView, at: number, out: Float32Array, count: number): void {
  for (let first = 0; first < count; first += 256, at += 210) {
    const blockScale = readHalf(stored, at + 208);
    // Eight runs of 32 weights, four in each half of the block; each run has two scales.
    for (let run = 0; run < 8; run++) {
      const half = run >> 2;
      const lowBits = at + half * 64 + (run & 1) * 32;
      const lowShift = run & 2 ? 4 : 0;
      const highBits = at + 128 + half * 32;
      const highShift = (run & 3) * 2;
      for (let i = 0; i < 32; i++) {
        const code = ((stored.getUint8(lowBits + i) >> lowShift) & 15) | (((stored.getUint8(highBits + i) >> highShift) & 3) << 4);
        const scale = stored.getInt8(at + 192 + run * 2 + (i >> 4));
        out[first + run * 32 + i] = blockScale * scale * (code - 32);
      }
    }
  }
}

function readHalf(stored: DataView, at: number): number {
  return halfValue(stored.getUint16(at, true));
}
