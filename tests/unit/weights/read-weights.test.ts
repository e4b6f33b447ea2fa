import { expect, test } from "vitest";
import type { ByteSource } from "../../../src/bytes/byte-source";
import type { RecipePart } from "../../../src/weights/model-weights";
import { readParts } from "../../../src/weights/read-weights";
import { memorySource } from "../../support/memory-source";

const bytes = Uint8Array.from({ length: 4000 }, (_, i) => i % 251);

function part(source: ByteSource, start: number, end: number): RecipePart {
  return { tensor: { name: `at ${start}`, type: "F32", shape: [(end - start) / 4], source, range: { start, end } }, runs: [] };
}

test("adjacent ranges with padding between them share a request, and each part gets its own bytes", async () => {
  const source = memorySource(bytes);
  const parts = await readParts([part(source, 132, 400), part(source, 0, 100), part(source, 400, 480)]);
  expect(source.reads).toEqual([{ start: 0, end: 480 }]);
  expect(parts.map((read) => [...read.bytes])).toEqual([[...bytes.slice(132, 400)], [...bytes.slice(0, 100)], [...bytes.slice(400, 480)]]);
  for (const read of parts) expect(read.bytes.buffer.byteLength, "a buffer of its own").toBe(read.bytes.byteLength);
});

test("distant ranges have separate requests", async () => {
  const source = memorySource(bytes);
  const parts = await readParts([part(source, 0, 100), part(source, 2000, 2100)]);
  expect(source.reads).toEqual([
    { start: 0, end: 100 },
    { start: 2000, end: 2100 },
  ]);
  expect(parts.map((read) => read.bytes[0])).toEqual([bytes[0], bytes[2000]]);
});

test("parts of two files at the same offset are not treated as adjacent", async () => {
  const first = memorySource(bytes);
  const second = memorySource(bytes);
  await readParts([part(first, 0, 100), part(second, 100, 200)]);
  expect([first.reads, second.reads]).toEqual([[{ start: 0, end: 100 }], [{ start: 100, end: 200 }]]);
});
