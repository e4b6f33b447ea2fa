// What a verified source asks of its source: whole chunks, but each of them once.
import { describe, expect, test } from "vitest";
import type { ByteRange, ByteSource } from "../../../src/bytes/byte-source";
import { verifySource } from "../../../src/bytes/verified-source";
import { memorySource } from "../../support/memory-source";
import { type Random, seededRandom } from "../../support/random";
import { hashesOf, slowSource, turn } from "./hashed-file";
import { expectRange, randomBytes } from "./test-bytes";

const CHUNK = 1024;
const SIZE = 10 * CHUNK - 100;
const bytes = randomBytes(SIZE, "verified requests");
const bytesOf = (ranges: readonly ByteRange[]) => ranges.reduce((sum, { start, end }) => sum + end - start, 0);

describe("of its source", () => {
  test("a read asks for whole chunks, once, and its neighbours only for the chunks that nobody read", async () => {
    const memory = memorySource(bytes);
    const source = verifySource(memory, hashesOf(bytes, CHUNK));
    await expectRange(source, { start: 2 * CHUNK + 10, end: 5 * CHUNK + 10 }, bytes);
    await expectRange(source, { start: 10, end: 2 * CHUNK + 10 }, bytes);
    await expectRange(source, { start: 5 * CHUNK + 10, end: SIZE }, bytes);
    await expectRange(source, { start: 0, end: 10 }, bytes);
    expect(memory.reads).toEqual([
      { start: 2 * CHUNK, end: 6 * CHUNK },
      { start: 0, end: 2 * CHUNK },
      { start: 6 * CHUNK, end: SIZE },
    ]);
  });

  test("a read asks for what is missing on both sides of a kept chunk, and not for that one", async () => {
    const memory = memorySource(bytes);
    const source = verifySource(memory, hashesOf(bytes, CHUNK));
    await source.read({ start: 5 * CHUNK + 10, end: 5 * CHUNK + 20 });
    await expectRange(source, { start: 4 * CHUNK, end: 8 * CHUNK }, bytes);
    expect(memory.reads.slice(1)).toEqual([
      { start: 4 * CHUNK, end: 5 * CHUNK },
      { start: 6 * CHUNK, end: 8 * CHUNK },
    ]);
  });

  test("reads at once share what is under way", async () => {
    const memory = slowSource(bytes);
    const source = verifySource(memory, hashesOf(bytes, CHUNK));
    const cuts = [0, 1500, 1600, 4000, 7000, SIZE];
    await Promise.all(cuts.slice(1).map((end, index) => expectRange(source, { start: cuts[index] ?? 0, end }, bytes)));
    await Promise.all([0, 1].map(() => expectRange(source, { start: 0, end: SIZE }, bytes)));
    expect(bytesOf(memory.reads)).toBe(2 * SIZE);
  });

  test("an empty range asks for nothing", async () => {
    const memory = memorySource(bytes);
    await expectRange(verifySource(memory, hashesOf(bytes, CHUNK)), { start: 1500, end: 1500 }, bytes);
    expect(memory.reads).toEqual([]);
  });

  test("a chunk is kept until all of it was taken, and no longer", async () => {
    const memory = memorySource(bytes);
    const source = verifySource(memory, hashesOf(bytes, CHUNK));
    for (let start = 0; start < CHUNK; start += 256) await expectRange(source, { start, end: start + 256 }, bytes);
    expect(memory.reads.length).toBe(1);
    await expectRange(source, { start: 0, end: 256 }, bytes);
    expect(memory.reads.length).toBe(2);
  });

  test("16 MiB of half-used chunks are kept, and of more those that were used last", async () => {
    const half = 8 << 20; // of the largest chunks that a file may have
    const content = new Uint8Array(3 * 2 * half);
    const memory = memorySource(content);
    const source = verifySource(memory, hashesOf(content, 2 * half));
    for (const chunk of [0, 1]) await source.read({ start: chunk * 2 * half, end: chunk * 2 * half + half });
    await source.read({ start: 3 * half, end: 4 * half });
    expect(memory.reads.length).toBe(2);
    await source.read({ start: half, end: 2 * half });
    expect(memory.reads.length).toBe(3);
  });

  test("each buffer that it gave is freed once all who needed it have copied, also after an abort", async () => {
    const freed: number[] = [];
    const memory = slowSource(bytes);
    const watched: ByteSource = {
      ...memory,
      async read(range, signal) {
        const answer = await memory.read(range, signal);
        Object.defineProperty(answer.buffer, "transfer", { value: () => answer.fill(0) && freed.push(range.start) });
        return answer;
      },
    };
    const source = verifySource(watched, hashesOf(bytes, CHUNK));
    const abort = new AbortController();
    const reads = [
      expectRange(source, { start: 0, end: 4000 }, bytes),
      expectRange(source, { start: 2000, end: 6000 }, bytes),
      source.read({ start: 0, end: 3 * CHUNK }, abort.signal),
    ];
    abort.abort("enough");
    expect((await Promise.allSettled(reads)).map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "rejected"]);
    await turn();
    expect(freed.sort()).toEqual([0, 4 * CHUNK]);
    await expectRange(source, { start: 5900, end: 6100 }, bytes);
  });
});

describe("reads of a whole file of 40 MB in chunks of 64 KiB ask for at most 1 % more", () => {
  const FILE_BYTES = 39_886_784;
  const PIECE_BYTES = 256 << 10;
  const content = randomBytes(FILE_BYTES, "40 MB");
  const hashes = hashesOf(content, 64 << 10);

  /** Tensors of a layer's sorts of sizes one after another, in pieces. */
  function tensorPieces(random: Random): ByteRange[] {
    const pieces: ByteRange[] = [];
    const sizes = [2304, 186_624, 62_208, 497_664, 16_588_800];
    for (let start = 0; start < FILE_BYTES; ) {
      const end = Math.min(FILE_BYTES, start + (sizes[random.integer(start === 0 ? sizes.length : 4)] ?? 1));
      for (let at = start; at < end; at += PIECE_BYTES) pieces.push({ start: at, end: Math.min(end, at + PIECE_BYTES) });
      start = end;
    }
    return pieces;
  }

  async function expectBound(arrange: (pieces: readonly ByteRange[], random: Random) => readonly ByteRange[], atOnce: number) {
    const random = seededRandom(String(arrange));
    const memory = slowSource(content, random);
    const source = verifySource(memory, hashes);
    const pieces = tensorPieces(random);
    const waiting = [...arrange(pieces, random)];
    expect([waiting.length, bytesOf(waiting)]).toEqual([pieces.length, FILE_BYTES]);
    const worker = async () => {
      for (let piece = waiting.shift(); piece; piece = waiting.shift()) await expectRange(source, piece, content);
    };
    await Promise.all(Array.from({ length: atOnce }, worker));
    expect(bytesOf(memory.reads)).toBeGreaterThanOrEqual(FILE_BYTES);
    expect(bytesOf(memory.reads)).toBeLessThanOrEqual(1.01 * FILE_BYTES);
  }

  const orders: readonly [string, (pieces: readonly ByteRange[], random: Random) => readonly ByteRange[]][] = [
    ["in the file's order", (pieces) => pieces],
    ["backwards", (pieces) => pieces.toReversed()],
    ["shuffled", (pieces, random) => Array.from(random.permutation(pieces.length), (index) => pieces[index] ?? { start: 0, end: 0 })],
    ["every second one first", (pieces) => [0, 1].flatMap((rest) => pieces.filter((_, index) => index % 2 === rest))],
  ];
  describe.each(orders)("%s", (_, arrange) => {
    test.each([1, 12, 1000])("%i at once", (atOnce) => expectBound(arrange, atOnce), 60_000);
  });
});
