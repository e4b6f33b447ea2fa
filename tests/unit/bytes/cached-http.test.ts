import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { ByteEvent } from "../../../src/bytes/byte-source";
import { type CachedHttpOptions, cacheEntries, deleteCacheEntry, openCachedHttp } from "../../../src/bytes/opfs-cache";
import { verifySource } from "../../../src/bytes/verified-source";
import { expectLlmError } from "../../support/expect-llm-error";
import { type HubServer, startHub } from "../../support/hub-server";
import { MemoryDirectory } from "../../support/memory-directory";
import { hashesOf } from "./hashed-file";
import { expectRange, randomBytes } from "./test-bytes";

const PATH = "user/model/model.safetensors";
const SIZE = 300_000;
const bytes = randomBytes(SIZE, "cached http");

let hub: HubServer;
let root: MemoryDirectory;
let events: ByteEvent[];

beforeEach(async () => {
  hub = await startHub();
  hub.put(PATH, bytes);
  root = new MemoryDirectory();
  events = [];
});
afterEach(() => hub.close());

/** As a new visit to the page would open it. */
function visit(more: CachedHttpOptions = {}, path = PATH) {
  hub.requests.length = 0;
  events.length = 0;
  return openCachedHttp(hub.fileUrl(path), {
    directory: async () => root.handle,
    backoffMs: 1,
    onEvent: (event) => events.push(event),
    ...more,
  });
}
const sentBytes = () => hub.requests.reduce((sum, { bytesSent }) => sum + bytesSent, 0);
const types = () => [...new Set(events.map(({ type }) => type))];

test("the second visit moves one byte over the network", async () => {
  await expectRange(await visit(), { start: 0, end: SIZE }, bytes);
  expect(sentBytes()).toBe(SIZE);
  await expectRange(await visit(), { start: 0, end: SIZE }, bytes);
  expect(sentBytes()).toBe(1);
});

test("without network the second visit reads the whole file, and an event says that it is unchecked", async () => {
  await (await visit()).read({ start: 0, end: SIZE });
  await hub.pause();
  await expectRange(await visit(), { start: 0, end: SIZE }, bytes);
  expect(types()).toEqual(["offline-cache-used", "bytes-received"]);
  expect(hub.requests).toEqual([]);
});

test("a server that is down counts as no network, one that refuses does not", async () => {
  await (await visit()).read({ start: 0, end: SIZE });
  hub.faults = { status: { code: 503 } };
  await expectRange(await visit(), { start: 0, end: SIZE }, bytes);
  expect(types()).toContain("offline-cache-used");
  hub.faults = { status: { code: 401 } };
  await expectLlmError(visit(), "fetch-failed", "401");
});

test("without network a range that is not in the cache says so, and comes once the network is back", async () => {
  await (await visit()).read({ start: 0, end: 100_000 });
  await hub.pause();
  const source = await visit();
  await expectLlmError(source.read({ start: 90_000, end: 200_000 }), "fetch-failed", "not in the cache", "connect to the network");
  await hub.resume();
  await expectRange(source, { start: 90_000, end: SIZE }, bytes);
});

test("a file that changed between visits is read anew", async () => {
  await (await visit()).read({ start: 0, end: SIZE });
  const next = randomBytes(SIZE, "another version");
  hub.put(PATH, next);
  await expectRange(await visit(), { start: 0, end: SIZE }, next);
  expect((await cacheEntries({ directory: async () => root.handle })).length).toBe(1);
});

test("a file that changed while the network was away is an error, never a mixture", async () => {
  await (await visit()).read({ start: 0, end: 100_000 });
  await hub.pause();
  const source = await visit();
  await hub.resume();
  hub.put(PATH, randomBytes(SIZE, "another version"));
  await expectLlmError(source.read({ start: 90_000, end: 200_000 }), "bytes-changed", "Load it again");
});

test("an immutable file that is all here asks the network for nothing", async () => {
  await (await visit({ immutable: true })).read({ start: 0, end: SIZE });
  const source = await visit({ immutable: true });
  await expectRange(source, { start: 0, end: SIZE }, bytes);
  expect(hub.requests).toEqual([]);
});

test("an immutable file that is here in part asks for one byte and what is missing; without network what is here is read", async () => {
  await (await visit({ immutable: true })).read({ start: 0, end: 100_000 });
  await expectRange(await visit({ immutable: true }), { start: 0, end: SIZE }, bytes);
  expect(sentBytes()).toBeLessThan(SIZE - 100_000 + (32 << 10));
  await deleteCacheEntry(hub.fileUrl(PATH), { directory: async () => root.handle });
  await (await visit({ immutable: true })).read({ start: 0, end: 100_000 });
  await hub.pause();
  await expectRange(await visit({ immutable: true }), { start: 0, end: 100_000 }, bytes);
  expect(types()).toEqual(["offline-cache-used", "bytes-received"]);
});

// Half of a commit's file was cached when its ETag became another: each later load ended in "bytes-changed … Load it again".
test.each([
  ["its ETag", { withoutHeaders: [], changedEtag: { afterRequests: 0 } }, bytes],
  ["its bytes", {}, randomBytes(SIZE, "the same commit")],
])("an immutable file that is here in part when the server changes %s is fetched anew, and an event says so", async (_, faults, next) => {
  await (await visit({ immutable: true })).read({ start: 0, end: 100_000 });
  hub.put(PATH, next);
  hub.faults = faults;
  await expectRange(await visit({ immutable: true }), { start: 0, end: SIZE }, next);
  expect(events.filter(({ type }) => type === "cache-outdated")).toHaveLength(1);
  await expectRange(await visit({ immutable: true }), { start: 0, end: SIZE }, next);
  expect(hub.requests).toEqual([]);
});

describe("one 404 does not cost a visitor what is in the cache", () => {
  afterEach(() => vi.useRealTimers());
  const DAY_MS = 24 * 3_600_000;
  const missingOnce = async () => {
    hub.faults = { status: { code: 404, times: 1 } };
    await expectLlmError(visit(), "not-found", "404");
    hub.faults = {};
  };
  const later = (ms: number) => vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + ms });

  test("though it comes again within the hour", async () => {
    await (await visit()).read({ start: 0, end: SIZE });
    for (let times = 0; times < 3; times++) await missingOnce();
    later(3_600_000);
    await missingOnce();
    await expectRange(await visit(), { start: 0, end: SIZE }, bytes);
    expect(sentBytes()).toBe(1);
  });

  test("and without network the copy is read", async () => {
    await (await visit()).read({ start: 0, end: SIZE });
    await missingOnce();
    await hub.pause();
    await expectRange(await visit(), { start: 0, end: SIZE }, bytes);
  });

  test("but a file that is gone for a day is dropped", async () => {
    await (await visit()).read({ start: 0, end: SIZE });
    await missingOnce();
    later(DAY_MS + 1);
    await missingOnce();
    expect(await cacheEntries({ directory: async () => root.handle })).toEqual([]);
    await hub.pause();
    await expectLlmError(visit(), "not-found", "when it was last asked");
  });

  test("and an answer between two of them counts them anew", async () => {
    await (await visit()).read({ start: 0, end: SIZE });
    await missingOnce();
    await visit();
    later(DAY_MS + 1);
    await missingOnce();
    await expectRange(await visit(), { start: 0, end: SIZE }, bytes);
    expect(sentBytes()).toBe(1);
  });
});

test("a file that the server did not have is not found without network either, and found once it is there", async () => {
  const path = "user/model/chat_template.jinja";
  await expectLlmError(visit({}, path), "not-found", "404");
  await hub.pause();
  await expectLlmError(visit({}, path), "not-found", "when it was last asked");
  expect(await cacheEntries({ directory: async () => root.handle })).toEqual([]);
  await hub.resume();
  hub.put(path, bytes.subarray(0, 100));
  await expectRange(await visit({ immutable: true }, path), { start: 0, end: 100 }, bytes);
});

test("a file never seen needs the network", async () => {
  await hub.pause();
  await expectLlmError(visit({ maxAttempts: 2 }), "fetch-failed", "no answer");
});

test("a server without ranges is not downloaded again where the cache holds all", async () => {
  hub.faults = { ignoreRanges: true };
  await expectRange(await visit(), { start: 0, end: SIZE }, bytes);
  await expectRange(await visit(), { start: 0, end: SIZE }, bytes);
  expect(hub.requests.filter(({ server }) => server === "cdn").length).toBe(1);
});

test("an abort ends a read that waits for the network, and a later read works", async () => {
  const source = await visit();
  hub.faults = { stall: { afterBytes: 10 } };
  const abort = new AbortController();
  const read = source.read({ start: 0, end: SIZE }, abort.signal);
  setTimeout(() => abort.abort("enough"), 50);
  await expect(read).rejects.toBe("enough");
  hub.faults = {};
  await expectRange(source, { start: 0, end: SIZE }, bytes);
});

// The signal of a load is aborted for good when its device is lost.
test("what is missing comes though the signal that opened the file was aborted since", async () => {
  await (await visit({ immutable: true })).read({ start: 0, end: SIZE });
  const opener = new AbortController();
  const source = await visit({ immutable: true, signal: opener.signal });
  await source.evict?.({ start: 0, end: SIZE });
  opener.abort("the device was lost");
  await expectRange(source, { start: 10, end: SIZE }, bytes);
});

test("of two reads that wait for the network, one that gives up does not end the other", async () => {
  await (await visit({ immutable: true })).read({ start: 0, end: SIZE });
  const source = await visit({ immutable: true });
  await source.evict?.({ start: 0, end: SIZE });
  hub.faults = { stall: { afterBytes: 0, times: 1 } };
  const [one, two] = [new AbortController(), new AbortController()];
  const reads = [source.read({ start: 0, end: 100 }, one.signal), source.read({ start: 0, end: 100 }, two.signal)];
  setTimeout(() => one.abort("one"), 30);
  await expect(reads[0]).rejects.toBe("one");
  setTimeout(() => two.abort("two"), 30);
  await expect(reads[1]).rejects.toBe("two");
  await expectRange(source, { start: 0, end: SIZE }, bytes);
});

test("hashes, not the ETag, tell whether what is missing belongs to what is here", async () => {
  await (await visit({ immutable: true })).read({ start: 0, end: SIZE });
  const read = async () => {
    const source = await visit({ immutable: true });
    await source.evict?.({ start: 100_000, end: SIZE });
    return verifySource(source, hashesOf(bytes, 4096));
  };
  hub.faults = { changedEtag: { afterRequests: 0 } };
  await expectRange(await read(), { start: 0, end: SIZE }, bytes);
  hub.put(PATH, randomBytes(SIZE, "another file of this length"));
  await expectLlmError((await read()).read({ start: 0, end: SIZE }), "bad-hash", "came twice");
});

describe("a file that the server refuses, as buckets do with what they do not have,", () => {
  test("is not found without network, where nothing of it is here", async () => {
    hub.faults = { status: { code: 403 } };
    await expectLlmError(visit(), "fetch-failed", "403");
    await hub.pause();
    await expectLlmError(visit(), "not-found", "refused it");
    await hub.resume();
    hub.faults = {};
    await expectRange(await visit(), { start: 0, end: SIZE }, bytes);
  });

  test("stays in the cache for good, since a token may be past its time", async () => {
    await (await visit()).read({ start: 0, end: SIZE });
    hub.faults = { status: { code: 403 } };
    for (const days of [0, 2, 4]) {
      vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + days * 24 * 3_600_000 });
      await expectLlmError(visit(), "fetch-failed", "403");
      vi.useRealTimers();
    }
    hub.faults = {};
    await expectRange(await visit(), { start: 0, end: SIZE }, bytes);
    expect(sentBytes()).toBe(1);
  });
});

// Apache writes inode numbers into tags: behind a load balancer every second visit loaded the model again.
test("a copy that came from another server of the CDN is taken, by length and date, and keeps its version", async () => {
  let tag = 0;
  const fetch: typeof globalThis.fetch = async (input, init) => {
    const response = await globalThis.fetch(input, init);
    const headers = new Headers(response.headers);
    headers.set("ETag", `"${tag}"`);
    headers.set("Last-Modified", "Tue, 01 Jul 2025 00:00:00 GMT");
    return new Response(response.body, { status: response.status, headers });
  };
  await (await visit({ fetch })).read({ start: 0, end: 100_000 });
  for (tag = 1; tag < 4; tag++) {
    const source = await visit({ fetch });
    expect(source.version).toBe('"0"');
    await expectRange(source, { start: 0, end: 100_000 + tag * 50_000 }, bytes);
    expect(sentBytes()).toBeLessThan(100_000);
    expect(types()).toContain("etag-differs");
  }
});
