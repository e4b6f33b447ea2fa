import fc from "fast-check";
import { afterEach, describe, expect, test, vi } from "vitest";
import type { ByteRange, ByteSource } from "../../../src/bytes/byte-source";
import { verifySource } from "../../../src/bytes/verified-source";
import { expectLlmError } from "../../support/expect-llm-error";
import { memorySource } from "../../support/memory-source";
import { seededRandom } from "../../support/random";
import { hashesOf, slowSource, turn } from "./hashed-file";
import { expectRange, randomBytes } from "./test-bytes";

const CHUNK = 1024;
const SIZE = 10 * CHUNK - 100;
const bytes = randomBytes(SIZE, "verified");
const NAME = "https://hub.example/model.gguf";

function withFlippedBit(content: Uint8Array, position: number, bit = 0): Uint8Array {
  const flipped = content.slice();
  flipped[position] = (flipped[position] ?? 0) ^ (1 << bit);
  return flipped;
}

const chunkRange = (position: number) => {
  const start = Math.floor(position / CHUNK) * CHUNK;
  return { start, end: Math.min(SIZE, start + CHUNK) };
};

const rangeWithin = (size: number) =>
  fc.tuple(fc.nat(size), fc.nat(size)).map(([a, b]) => ({ start: Math.min(a, b), end: Math.max(a, b) }));

test("any ranges in any order, at once or after each other, give the file's bytes", async () => {
  const file = fc.tuple(fc.nat(9000), fc.constantFrom(64, 256, 4096)).chain(([size, chunkBytes]) =>
    fc.record({
      size: fc.constant(size),
      chunkBytes: fc.constant(chunkBytes),
      batches: fc.array(fc.array(rangeWithin(size), { maxLength: 6 }), { maxLength: 4 }),
    }),
  );
  await fc.assert(
    fc.asyncProperty(file, async ({ size, chunkBytes, batches }) => {
      const content = bytes.slice(0, size);
      const source = verifySource(slowSource(content, seededRandom(`${size}`)), hashesOf(content, chunkBytes));
      for (const reads of batches) await Promise.all(reads.map((range) => expectRange(source, range, content)));
    }),
    { numRuns: 60 },
  );
});

test("name, size and version are the source's, and a range past its end is refused", async () => {
  const versioned = { ...memorySource(bytes, { name: NAME }), version: '"1"' };
  const source = verifySource(versioned, hashesOf(bytes, CHUNK));
  expect([source.name, source.size, source.version]).toEqual([NAME, SIZE, '"1"']);
  expect(verifySource(memorySource(bytes), hashesOf(bytes, CHUNK)).version).toBeUndefined();
  await expectLlmError(source.read({ start: 5, end: SIZE + 1 }), "bytes-truncated", NAME, String(SIZE));
});

test("what is handed out is a buffer of its own: its owner may transfer it", async () => {
  const source = verifySource(memorySource(bytes), hashesOf(bytes, CHUNK));
  const first = await source.read({ start: 0, end: 1500 });
  expect(first.buffer.byteLength).toBe(1500);
  first.fill(0);
  structuredClone(first, { transfer: [first.buffer] });
  await expectRange(source, { start: 1400, end: 1600 }, bytes);
});

describe("a wrong byte", () => {
  test("is found wherever it is and named by its chunk, and other chunks are read all the same", async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(SIZE - 1), fc.nat(7), async (position, bit) => {
        const source = verifySource(memorySource(withFlippedBit(bytes, position, bit), { name: NAME }), hashesOf(bytes, CHUNK));
        const { start, end } = chunkRange(position);
        await expectLlmError(source.read({ start: 0, end: SIZE }), "bad-hash", NAME, `bytes ${start} to ${end} `, "load it again");
        await expectRange(source, { start: 0, end: start }, bytes);
        await expectRange(source, { start: end, end: SIZE }, bytes);
      }),
      { numRuns: 40 },
    );
  });

  test("is found also where a read wants only other bytes of its chunk", async () => {
    const source = verifySource(memorySource(withFlippedBit(bytes, CHUNK)), hashesOf(bytes, CHUNK));
    await expectLlmError(source.read({ start: 2 * CHUNK - 1, end: 2 * CHUNK }), "bad-hash");
  });

  test("is found in the digests as in the file", async () => {
    const hashes = hashesOf(bytes, CHUNK);
    const source = verifySource(memorySource(bytes), { ...hashes, sha256: withFlippedBit(hashes.sha256, 3 * 16 + 15) });
    await expectLlmError(source.read({ start: 0, end: SIZE }), "bad-hash", `bytes ${3 * CHUNK} to ${4 * CHUNK} `);
  });

  test("is told of from the first wrong chunk to the last", async () => {
    const wrong = withFlippedBit(withFlippedBit(bytes, 2 * CHUNK), 6 * CHUNK);
    const source = verifySource(memorySource(wrong), hashesOf(bytes, CHUNK));
    await expectLlmError(source.read({ start: 0, end: SIZE }), "bad-hash", `bytes ${2 * CHUNK} to ${7 * CHUNK} `);
  });

  test("stops a read's other parts, and is what the read fails with once they have ended", async () => {
    let running = 0;
    const wrong = memorySource(withFlippedBit(bytes, SIZE - 1));
    const endless: ByteSource = {
      ...wrong,
      async read(range, signal) {
        if (range.start > 0) return wrong.read(range);
        running += 1;
        while (!signal?.aborted) await turn();
        await turn();
        running -= 1;
        throw new Error("stopped");
      },
    };
    const source = verifySource(endless, hashesOf(bytes, CHUNK));
    await source.read({ start: 5 * CHUNK + 1, end: 5 * CHUNK + 2 });
    await expectLlmError(source.read({ start: 0, end: SIZE }), "bad-hash");
    expect(running).toBe(0);
  });
});

describe("a source that holds a copy", () => {
  /** Keeps for ever what came over the network, unless it is evicted. */
  class CopySource implements ByteSource {
    readonly name = NAME;
    readonly size = SIZE;
    readonly log: string[] = [];
    network: Uint8Array;
    readonly #copies = new Map<number, number>();

    constructor(network: Uint8Array) {
      this.network = network;
    }

    async read({ start, end }: ByteRange): Promise<Uint8Array<ArrayBuffer>> {
      this.log.push(`read ${start} ${end}`);
      for (let at = start; at < end; at++) if (!this.#copies.has(at)) this.#copies.set(at, this.network[at] ?? 0);
      return Uint8Array.from({ length: end - start }, (_, index) => this.#copies.get(start + index) ?? 0);
    }

    async evict({ start, end }: ByteRange): Promise<void> {
      this.log.push(`evict ${start} ${end}`);
      for (let at = start; at < end; at++) this.#copies.delete(at);
    }
  }

  test("of wrong bytes is asked past it, which a listener is told", async () => {
    const copying = new CopySource(withFlippedBit(bytes, 1500));
    await copying.read({ start: 0, end: SIZE });
    copying.network = bytes;
    copying.log.length = 0;
    const onMismatch = vi.fn();
    const source = verifySource(copying, hashesOf(bytes, CHUNK), { onMismatch });
    await expectRange(source, { start: 10, end: 2500 }, bytes);
    expect(copying.log).toEqual(["read 0 3072", "evict 1024 2048", "read 1024 2048"]);
    expect(onMismatch.mock.calls).toEqual([[{ start: 1024, end: 2048 }]]);
  });

  test("is left without one when the bytes are wrong twice, so that the next attempt can succeed", async () => {
    const copying = new CopySource(withFlippedBit(bytes, 1500));
    const source = verifySource(copying, hashesOf(bytes, CHUNK));
    await expectLlmError(source.read({ start: 10, end: 2500 }), "bad-hash", "bytes 1024 to 2048 ");
    copying.network = bytes;
    copying.log.length = 0;
    await expectRange(source, { start: 10, end: 2500 }, bytes);
    expect(copying.log).toEqual(["read 0 3072"]);
  });

  test("is not evicted for reads that are right", async () => {
    const copying = new CopySource(bytes);
    await verifySource(copying, hashesOf(bytes, CHUNK)).read({ start: 0, end: SIZE });
    expect(copying.log).toEqual([`read 0 ${SIZE}`]);
  });
});

test("bytes that are wrong once are read again where nothing can be evicted, and only those", async () => {
  const memory = memorySource(bytes);
  let isFirst = true;
  const faulty: ByteSource = {
    ...memory,
    async read(range, signal) {
      const answer = await memory.read(range, signal);
      if (isFirst) answer.fill(0, 4 * CHUNK, 5 * CHUNK);
      isFirst = false;
      return answer;
    },
  };
  await expectRange(verifySource(faulty, hashesOf(bytes, CHUNK)), { start: 0, end: SIZE }, bytes);
  expect(memory.reads).toEqual([
    { start: 0, end: SIZE },
    { start: 4 * CHUNK, end: 5 * CHUNK },
  ]);
});

test("a file of another size is refused before anything is read", () => {
  for (const content of [bytes.slice(1), new Uint8Array(SIZE + 1)]) {
    const source = memorySource(content, { name: NAME });
    expect(() => verifySource(source, hashesOf(bytes, CHUNK))).toThrow(
      expect.objectContaining({ code: "bad-hash", message: expect.stringContaining(`${NAME}: the file has ${content.length} bytes`) }),
    );
    expect(source.reads).toEqual([]);
  }
});

describe("in a page without WebCrypto", () => {
  afterEach(() => vi.unstubAllGlobals());

  test.each([[undefined], [{}]])("nothing is read unchecked: an error asks for https (crypto is %j)", (crypto) => {
    vi.stubGlobal("crypto", crypto);
    expect(() => verifySource(memorySource(bytes), hashesOf(bytes, CHUNK))).toThrow(
      expect.objectContaining({ code: "unsupported", message: expect.stringContaining("https or from localhost") }),
    );
  });
});

describe("an abort", () => {
  test("before a read asks for nothing", async () => {
    const memory = memorySource(bytes);
    const unaware: ByteSource = { ...memory, read: (range) => memory.read(range) };
    await expect(verifySource(unaware, hashesOf(bytes, CHUNK)).read({ start: 0, end: 10 }, AbortSignal.abort("no"))).rejects.toBe("no");
    expect(memory.reads).toEqual([]);
  });

  test("ends a read with its reason, and leaves those that share its chunks their bytes", async () => {
    const memory = slowSource(bytes);
    const source = verifySource(memory, hashesOf(bytes, CHUNK));
    const abort = new AbortController();
    const ended = source.read({ start: 0, end: 5000 }, abort.signal);
    const others = [3000, 4000].map((start) => expectRange(source, { start, end: start + 3000 }, bytes));
    abort.abort("enough");
    const later = expectRange(source, { start: 0, end: SIZE }, bytes);
    await expect(ended).rejects.toBe("enough");
    await Promise.all([...others, later]);
  });

  test("reaches the source's read", async () => {
    const abort = new AbortController();
    const endless: ByteSource = {
      ...memorySource(bytes),
      read: (_, signal) => new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason))),
    };
    const ended = verifySource(endless, hashesOf(bytes, CHUNK)).read({ start: 0, end: 10 }, abort.signal);
    abort.abort("enough");
    await expect(ended).rejects.toBe("enough");
  });

  test("keeps nobody waiting who needs chunks of the read that it ends, also while another part of that read goes on", async () => {
    const memory = memorySource(bytes);
    let end: () => void = () => undefined;
    const stubborn: ByteSource = {
      ...memory,
      async read(range, signal) {
        const answer = await memory.read(range);
        if (range.start > 5 * CHUNK) await new Promise<void>((resolve) => (end = resolve));
        await turn();
        signal?.throwIfAborted();
        return answer;
      },
    };
    const source = verifySource(stubborn, hashesOf(bytes, CHUNK));
    await source.read({ start: 5 * CHUNK + 1, end: 5 * CHUNK + 2 });
    const abort = new AbortController();
    const ended = source.read({ start: 0, end: SIZE }, abort.signal);
    const early = expectRange(source, { start: 0, end: 10 }, bytes);
    abort.abort("enough");
    await early;
    await expectRange(source, { start: CHUNK, end: 2 * CHUNK }, bytes);
    end();
    await expect(ended).rejects.toBe("enough");
  });

  test("lets what is read in its stead be shared", async () => {
    const memory = slowSource(bytes);
    const source = verifySource(memory, hashesOf(bytes, CHUNK));
    const abort = new AbortController();
    const ended = source.read({ start: 0, end: CHUNK }, abort.signal);
    abort.abort("enough");
    const second = source.read({ start: 0, end: CHUNK });
    await expect(ended).rejects.toBe("enough");
    await Promise.all([second, source.read({ start: 0, end: CHUNK })]);
    expect(memory.reads.length).toBe(2);
  });

  test("of a read that waits for another's chunks ends it at once, and leaves the other alone", async () => {
    const memory = memorySource(bytes);
    let answer: () => void = () => undefined;
    const waiting = new Promise<void>((resolve) => {
      answer = resolve;
    });
    const source = verifySource(
      { ...memory, read: (range, signal) => waiting.then(() => memory.read(range, signal)) },
      hashesOf(bytes, CHUNK),
    );
    const abort = new AbortController();
    const first = expectRange(source, { start: 0, end: 5000 }, bytes);
    const ended = source.read({ start: 100, end: 4000 }, abort.signal);
    abort.abort("enough");
    await expect(ended).rejects.toBe("enough");
    answer();
    await first;
    expect(memory.reads.length).toBe(1);
  });

  test("leaves no listener at its signal", async () => {
    const { signal } = new AbortController();
    const added = vi.spyOn(signal, "addEventListener");
    const removed = vi.spyOn(signal, "removeEventListener");
    await verifySource(memorySource(bytes), hashesOf(bytes, CHUNK)).read({ start: 0, end: SIZE }, signal);
    expect(removed.mock.calls.length).toBe(added.mock.calls.length);
  });
});

test("a failure of chunks that several reads need is each one's failure, without a second attempt", async () => {
  let attempts = 0;
  const failing: ByteSource = {
    ...memorySource(bytes),
    async read() {
      attempts += 1;
      await turn();
      throw new Error("no network");
    },
  };
  const source = verifySource(failing, hashesOf(bytes, CHUNK));
  const reads = [1500, 1600, 1700].map((end) => source.read({ start: CHUNK, end }));
  for (const { status } of await Promise.allSettled(reads)) expect(status).toBe("rejected");
  expect(attempts).toBe(1);
  await expect(source.read({ start: CHUNK, end: 1500 })).rejects.toThrow("no network");
  expect(attempts).toBe(2);
});
