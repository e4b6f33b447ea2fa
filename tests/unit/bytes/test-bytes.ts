// Bytes to test with: from a seed, so that no two ranges look alike, and compared at once, where `toEqual` takes seconds a megabyte.
import { expect } from "vitest";
import type { ByteRange, ByteSource } from "../../../src/bytes/byte-source";
import { seededRandom } from "../../support/random";

export function randomBytes(count: number, seed: string): Uint8Array<ArrayBuffer> {
  const words = seededRandom(seed).ids(Math.ceil(count / 4), 2 ** 32);
  return new Uint8Array(words.buffer, 0, count);
}

/** Fails unless the source's `range` is that range of `bytes`. */
export async function expectRange(source: ByteSource, range: ByteRange, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
  const read = await source.read(range, signal);
  const expected = bytes.subarray(range.start, range.end);
  expect(read.length).toBe(expected.length);
  if (Buffer.compare(read, expected) === 0) return;
  const wrongIndex = read.findIndex((byte, index) => byte !== expected[index]);
  throw new Error(`byte ${range.start + wrongIndex} is ${read[wrongIndex]}, not ${expected[wrongIndex]}`);
}
