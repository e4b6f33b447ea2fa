import fc from "fast-check";
import { beforeEach, describe, expect, test } from "vitest";
import type { ByteEvent, ByteRange, ByteSource } from "../../../src/bytes/byte-source";
import { planRead } from "../../../src/bytes/cached-source";
import { type CacheOptions, cached, cacheEntries, deleteCacheEntry } from "../../../src/bytes/opfs-cache";
import { verifySource } from "../../../src/bytes/verified-source";
import { expectLlmError } from "../../support/expect-llm-error";
import { MemoryDirectory } from "../../support/memory-directory";
import { type MemorySource, memorySource } from "../../support/memory-source";
import { hashesOf } from "./hashed-file";
import { expectRange, randomBytes } from "./test-bytes";

const SIZE = 100_000;
const GRAIN = 16 << 10; // what a missing range widens to
const bytes = randomBytes(SIZE, "cache");
const NAME = "https://hub.example/model.safetensors";
const range = fc.tuple(fc.nat(SIZE), fc.nat(SIZE)).map(([a, b]) => ({ start: Math.min(a, b), end: Math.max(a, b) }));

let root: MemoryDirectory;
let events: ByteEvent[];
let options: CacheOptions;

beforeEach(() => {
  root = new MemoryDirectory();
  events = [];
  options = { directory: async () => root.handle, onEvent: (event) => events.push(event) };
});

function upstream(version = '"1"', content = bytes): MemorySource & { readonly version: string } {
  return { ...memorySource(content, { name: NAME }), version };
}

/** As after a reload of the page: nothing is left but the files. */
async function reopen(source: ByteSource): Promise<ByteSource> {
  return cached(source, options);
}

const bytesOf = (ranges: readonly ByteRange[]) => ranges.reduce((sum, { start, end }) => sum + end - start, 0);
const warnings = () => events.filter((event) => event.type === "cache-unavailable");

describe("the plan of a read", () => {
  const extents = fc.array(range, { maxLength: 8 });

  test("covers the range in order and without gaps, each piece within its extent", () => {
    fc.assert(
      fc.property(range, extents, (asked, cachedRanges) => {
        const pieces = planRead(asked, cachedRanges);
        let reached = asked.start;
        for (const { start, end, extent } of pieces) {
          expect(start).toBe(reached);
          expect(end).toBeGreaterThan(start);
          if (extent) expect([extent.start <= start, end <= extent.end]).toEqual([true, true]);
          reached = end;
        }
        expect(reached).toBe(Math.max(asked.start, asked.end));
      }),
    );
  });

  test("asks the source for no byte that is cached", () => {
    fc.assert(
      fc.property(range, extents, (asked, cachedRanges) => {
        const missing = planRead(asked, cachedRanges).filter((piece) => piece.extent === undefined);
        for (const piece of missing) {
          for (const extent of cachedRanges)
            expect(extent.end <= piece.start || piece.end <= extent.start || extent.end === extent.start).toBe(true);
        }
      }),
    );
  });

  test("takes the extent that reaches furthest", () => {
    const [short, long] = [
      { start: 0, end: 10 },
      { start: 0, end: 100 },
    ];
    expect(planRead({ start: 5, end: 90 }, [short, long, short])).toEqual([{ start: 5, end: 90, extent: long }]);
  });

  test("cuts what is missing at multiples of 4 MiB", () => {
    const MIB = 1 << 20;
    expect(planRead({ start: 3 * MIB, end: 9 * MIB }, [{ start: 5 * MIB, end: 6 * MIB }])).toEqual([
      { start: 3 * MIB, end: 4 * MIB },
      { start: 4 * MIB, end: 5 * MIB },
      { start: 5 * MIB, end: 6 * MIB, extent: { start: 5 * MIB, end: 6 * MIB } },
      { start: 6 * MIB, end: 8 * MIB },
      { start: 8 * MIB, end: 9 * MIB },
    ]);
  });
});

describe("a cached source", () => {
  test("gives the file's bytes whatever was read before, by itself or before reloads", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(range, { maxLength: 4 }), { maxLength: 3 }), async (visits) => {
        root = new MemoryDirectory();
        const source = upstream();
        for (const reads of visits) {
          const cache = await reopen(source);
          await Promise.all(reads.map((each) => expectRange(cache, each, bytes)));
        }
      }),
      { numRuns: 30 },
    );
  });

  test("asks its source for nothing that was read before a reload", async () => {
    const source = upstream();
    await expectRange(await reopen(source), { start: 20_000, end: 70_000 }, bytes);
    await expectRange(await reopen(source), { start: 90_000, end: SIZE }, bytes);
    const readCount = source.reads.length;
    const third = await reopen(source);
    await expectRange(third, { start: 21_000, end: 69_000 }, bytes);
    await expectRange(third, { start: 90_000, end: SIZE }, bytes);
    expect(source.reads.length).toBe(readCount);
    expect(events.at(-1)).toEqual({ type: "bytes-received", source: NAME, bytes: 10_000, origin: "cache" });
  });

  test("asks its source for hardly more than it is asked", async () => {
    const source = upstream();
    const cache = await reopen(source);
    await cache.read({ start: 40_000, end: 40_010 });
    await cache.read({ start: 39_900, end: 40_100 });
    expect(source.reads.length).toBe(1);
    expect(bytesOf(source.reads)).toBeLessThanOrEqual(2 * GRAIN);
  });

  test("takes no range for whole whose file is shorter or empty", async () => {
    const source = upstream();
    await (await reopen(source)).read({ start: 0, end: SIZE });
    const [one] = root.files().filter(({ path }) => /\/\d+-\d+$/.test(path));
    for (const length of [SIZE - 1, 0]) {
      one?.file.truncate(length);
      const readCount = source.reads.length;
      await expectRange(await reopen(source), { start: 5, end: SIZE }, bytes);
      expect(source.reads.length).toBe(readCount + 1);
    }
  });

  test("evicts a range: what holds a part of it is gone, now and after a reload, and nothing else", async () => {
    const source = upstream();
    const cache = await reopen(source);
    for (const start of [0, 32_768, 65_536]) await cache.read({ start, end: start + 10_000 });
    await cache.evict?.({ start: 40_000, end: 65_536 });
    expect(root.files().map(({ path }) => path.split("/")[1])).toEqual(["file.json", "0-16384", "65536-81920"]);
    for (const again of [await reopen(source), cache]) {
      const readCount = source.reads.length;
      await expectRange(again, { start: 0, end: 10_000 }, bytes);
      await expectRange(again, { start: 65_536, end: 70_000 }, bytes);
      expect(source.reads.length).toBe(readCount);
    }
    await expectRange(cache, { start: 33_000, end: 42_000 }, bytes);
    expect(source.reads.at(-1)).toEqual({ start: 32_768, end: 49_152 });
  });

  test("that evicts what another tab is writing reads past it", async () => {
    const source = upstream();
    const cache = await reopen(source);
    await cache.read({ start: 0, end: 10_000 });
    const other = root.files().find(({ path }) => path.endsWith("/0-16384"))?.file;
    const writer = await other?.createWritable();
    await cache.evict?.({ start: 0, end: 1 });
    await expectRange(cache, { start: 0, end: 10_000 }, bytes);
    expect(source.reads.length).toBe(2);
    await writer?.abort();
  });

  test("whose file went wrong on disk is mended behind hashes, and by a new attempt where the network was wrong too", async () => {
    const wrong = bytes.slice();
    wrong[50_000] = 255 - (wrong[50_000] ?? 0);
    await (await reopen(upstream('"1"', wrong))).read({ start: 0, end: SIZE });
    const hashes = hashesOf(bytes, 4096);
    const stillWrong = verifySource(await reopen(upstream('"1"', wrong)), hashes);
    await expectLlmError(stillWrong.read({ start: 0, end: SIZE }), "bad-hash", "bytes 49152 to 53248 ");
    const source = upstream();
    await expectRange(verifySource(await reopen(source), hashes), { start: 0, end: SIZE }, bytes);
    expect(source.reads.length).toBe(1);

    const mended = upstream();
    await expectRange(verifySource(await reopen(mended), hashes), { start: 0, end: SIZE }, bytes);
    expect(mended.reads).toEqual([]);
  });

  test("drops what it holds of another version, and never mixes the two", async () => {
    await (await reopen(upstream())).read({ start: 0, end: SIZE });
    const other = randomBytes(SIZE, "the next version");
    await expectRange(await reopen(upstream('"2"', other)), { start: 0, end: 50_000 }, other);
    const entries = await cacheEntries(options);
    expect(entries.map(({ version }) => version)).toEqual(['"2"']);
    await expectRange(await reopen(upstream()), { start: 0, end: SIZE }, bytes);
  });

  test("read by two tabs at once keeps both right, and what either wrote", async () => {
    const source = upstream();
    const tabs = await Promise.all([reopen(source), reopen(source)]);
    await Promise.all(
      tabs.flatMap((tab) => [expectRange(tab, { start: 0, end: 60_000 }, bytes), expectRange(tab, { start: 30_000, end: SIZE }, bytes)]),
    );
    const readCount = source.reads.length;
    await expectRange(await reopen(source), { start: 0, end: SIZE }, bytes);
    expect(source.reads.length).toBe(readCount);
  });

  test("goes on without what another tab has deleted, and says so once", async () => {
    const source = upstream();
    const cache = await reopen(source);
    await cache.read({ start: 0, end: SIZE });
    await deleteCacheEntry(NAME, options);
    await expectRange(cache, { start: 0, end: SIZE }, bytes);
    await expectRange(cache, { start: 0, end: SIZE }, bytes);
    expect(warnings().length).toBe(1);
  });

  test("goes on when the quota is full, says so once, and still serves what it holds", async () => {
    root = new MemoryDirectory("", { usedBytes: 0, quotaBytes: 40_000, writeCount: 0, failure: undefined });
    const source = upstream();
    const cache = await reopen(source);
    await expectRange(cache, { start: 0, end: 30_000 }, bytes);
    const { writeCount } = root.disk;
    await expectRange(cache, { start: 40_000, end: 60_000 }, bytes);
    root.disk.quotaBytes = Number.POSITIVE_INFINITY; // too late: nothing is tried any more
    for (const start of [60_000, 80_000]) await expectRange(cache, { start, end: start + 20_000 }, bytes);
    expect(warnings()).toMatchObject([{ source: NAME, reason: expect.stringContaining("full") }]);
    expect(root.disk.writeCount).toBe(writeCount);
    const readCount = source.reads.length;
    await expectRange(cache, { start: 0, end: 30_000 }, bytes);
    expect(source.reads.length).toBe(readCount);
  });

  test("is opened with all it holds where nothing more can be written", async () => {
    const source = upstream();
    await (await reopen(source)).read({ start: 0, end: SIZE });
    root.disk.quotaBytes = 0;
    const readCount = source.reads.length;
    await expectRange(await reopen(source), { start: 0, end: SIZE }, bytes);
    expect(source.reads.length).toBe(readCount);
  });

  test("tries again to write after a failure that is no full quota", async () => {
    const cache = await reopen(upstream());
    root.disk.failure = new DOMException("data pipe", "InvalidStateError");
    await expectRange(cache, { start: 0, end: GRAIN }, bytes);
    await expectRange(cache, { start: GRAIN, end: 2 * GRAIN }, bytes);
    expect(warnings().length).toBe(1);
    root.disk.failure = undefined;
    await expectRange(cache, { start: 2 * GRAIN, end: 3 * GRAIN }, bytes);
    expect(root.files().filter(({ path }) => path.endsWith(`/${2 * GRAIN}-${3 * GRAIN}`)).length).toBe(1);
    expect(await deleteCacheEntry(NAME, options)).toBe(true); // the failed writers hold nothing back
  });

  test("passes failures and aborts of its source on", async () => {
    const failing = { ...upstream(), read: () => Promise.reject(new Error("upstream")) };
    await expect((await reopen(failing)).read({ start: 0, end: 10 })).rejects.toThrow("upstream");
    await expect((await reopen(upstream())).read({ start: 0, end: 10 }, AbortSignal.abort("enough"))).rejects.toBe("enough");
  });
});

describe("no cache", () => {
  test("where there is no OPFS, the source itself is used and an event says so", async () => {
    const source = upstream();
    expect(await cached(source, { onEvent: (event) => events.push(event) })).toBe(source);
    expect(warnings()).toMatchObject([{ source: NAME, reason: expect.stringContaining("OPFS") }]);
  });

  test("where nothing tells versions apart, the source itself is used and an event says so", async () => {
    const source = memorySource(bytes, { name: NAME });
    expect(await cached(source, options)).toBe(source);
    expect(warnings()).toMatchObject([{ reason: expect.stringContaining("ETag") }]);
  });
});

describe("the list of what is cached", () => {
  test("tells each file's size and how much of it is here, overlaps counted once", async () => {
    const tabs = await Promise.all([reopen(upstream()), reopen(upstream())]);
    await tabs[0]?.read({ start: 0, end: 2 * GRAIN });
    await tabs[1]?.read({ start: GRAIN, end: 3 * GRAIN });
    await cached({ ...upstream(), name: "https://hub.example/other" }, options);
    const entries = await cacheEntries(options);
    expect(entries.map(({ url, size, cachedBytes }) => [url, size, cachedBytes]).sort()).toEqual([
      [NAME, SIZE, 3 * GRAIN],
      ["https://hub.example/other", SIZE, 0],
    ]);
    expect(Math.abs((entries[0]?.openedMs ?? 0) - Date.now())).toBeLessThan(60_000);
  });

  test("counts no half written range, and no directory without its description", async () => {
    await (await reopen(upstream())).read({ start: 0, end: SIZE });
    for (const { path, file } of root.files()) if (!path.endsWith(".json")) file.truncate(10);
    expect(await cacheEntries(options)).toMatchObject([{ cachedBytes: 0 }]);
    for (const { file } of root.files()) file.truncate(0);
    expect(await cacheEntries(options)).toEqual([]);
  });

  test("loses a file that is deleted, and keeps the others", async () => {
    await (await reopen(upstream())).read({ start: 0, end: SIZE });
    await cached({ ...upstream(), name: "https://hub.example/other" }, options);
    expect(await deleteCacheEntry(NAME, options)).toBe(true);
    expect((await cacheEntries(options)).map(({ url }) => url)).toEqual(["https://hub.example/other"]);
    expect(await deleteCacheEntry(NAME, options)).toBe(true);
  });

  test("keeps what another tab is writing, and says that it did", async () => {
    await (await reopen(upstream())).read({ start: 0, end: SIZE });
    const writer = await root.files()[1]?.file.createWritable();
    expect(await deleteCacheEntry(NAME, options)).toBe(false);
    await writer?.close();
    expect(await deleteCacheEntry(NAME, options)).toBe(true);
  });
});

describe("a damaged cache", () => {
  const read = async (source = upstream()) => {
    await expectRange(await reopen(source), { start: 0, end: SIZE }, bytes);
    return source.reads.length;
  };
  const metaFile = () => root.files().find(({ path }) => path.endsWith("/file.json"))?.file;

  test.each(["null", "{}", "[]", '"text"', '{"url":1,"version":"1","size":5}', '{"url":"https://a.test/","version":"1","size":-0.5}', "{"])(
    "whose description is %s lists the other files, and is well after the next load",
    async (text) => {
      await read();
      const writer = await metaFile()?.createWritable();
      await writer?.write(new TextEncoder().encode(text));
      await writer?.close();
      expect(await cacheEntries(options)).toEqual([]);
      expect(await read()).toBe(0);
      expect(await cacheEntries(options)).toMatchObject([{ url: NAME, cachedBytes: SIZE }]);
    },
  );

  test("with a file among its folders, or in the place of one, is well after the next load", async () => {
    await read();
    await (await root.getFileHandle("stray.txt", { create: true })).createWritable().then((writer) => writer.close());
    expect(await cacheEntries(options)).toHaveLength(1);
    const folder = root.files()[0]?.path.split("/")[0] ?? "";
    await root.removeEntry(folder, { recursive: true });
    await root.getFileHandle(folder, { create: true });
    expect(await cacheEntries(options)).toEqual([]);
    await read();
    expect(warnings()).toEqual([]);
    expect(await read()).toBe(0);
  });

  test("with folders in the place of its description and of a range is well after the next load", async () => {
    await read();
    const folder = await root.getDirectoryHandle(root.files()[0]?.path.split("/")[0] ?? "");
    for (const name of ["file.json", `0-${SIZE}`]) {
      await folder.removeEntry(name);
      await folder.getDirectoryHandle(name, { create: true });
    }
    expect(await cacheEntries(options)).toEqual([]);
    await read();
    expect(warnings()).toEqual([]);
    expect(await read()).toBe(0);
  });
});
