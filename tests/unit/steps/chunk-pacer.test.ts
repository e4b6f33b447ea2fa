import fc from "fast-check";
import { expect, test } from "vitest";
import { type ChunkPacer, fixedChunks, pacedChunks } from "../../../src/steps/chunk-pacer";

/** Cuts a prompt on a device that computes `rowsPerMs`. */
function cut(pacer: ChunkPacer, length: number, rowsPerMs: number): number[] {
  const chunks: number[] = [];
  for (let left = length; left > 0; ) {
    const rows = pacer.next(left);
    chunks.push(rows);
    pacer.took(rows, rows / rowsPerMs);
    left -= rows;
  }
  return chunks;
}

test("a fast device comes to the largest chunks after its first", () => {
  expect(cut(pacedChunks(1024, 16), 4000, 50)).toEqual([256, 1024, 1024, 1024, 672]);
});

test("a slow device comes to chunks that take no more than a tenth of a second", () => {
  const chunks = cut(pacedChunks(1024, 16), 1000, 0.7);
  expect(chunks.slice(0, 3)).toEqual([256, 64, 64]);
  expect(Math.max(...chunks.slice(1)) / 0.7).toBeLessThanOrEqual(100);
});

test("a chunk that was slow for once, while a driver compiled say, is made good by the next", () => {
  const pacer = pacedChunks(1024, 16);
  pacer.took(256, 3000);
  expect(pacer.next(5000)).toBe(33); // the fewest that can be cut without leaving a few
  pacer.took(33, 1);
  expect(pacer.next(5000)).toBe(1024);
});

test("the short end of a prompt does not shrink the next prompt's chunks", () => {
  const pacer = pacedChunks(1024, 16);
  cut(pacer, 4000, 50);
  pacer.took(3, 5);
  expect(pacer.next(5000)).toBe(1024);
});

test("no device is given more rows than the engine has room for", () => {
  expect(Math.max(...cut(pacedChunks(100, 16), 1000, 1000))).toBe(100);
});

test("chunks hold every row once, and where there are more than a few, none has only a few", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 600 }),
      fc.integer({ min: 1, max: 16 }),
      fc.integer({ min: 0, max: 300 }),
      fc.double({ min: 0.01, max: 100, noNaN: true }),
      (length, vectorRows, more, rate) => {
        const maxRows = 2 * vectorRows + 1 + more;
        for (const pacer of [fixedChunks(maxRows, vectorRows), pacedChunks(maxRows, vectorRows)]) {
          const chunks = cut(pacer, length, rate);
          expect(chunks.reduce((sum, rows) => sum + rows, 0)).toBe(length);
          if (length > vectorRows) expect(Math.min(...chunks)).toBeGreaterThan(vectorRows);
          expect(Math.max(...chunks)).toBeLessThanOrEqual(maxRows);
        }
      },
    ),
  );
});
