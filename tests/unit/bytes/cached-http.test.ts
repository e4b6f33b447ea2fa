import { afterEach, beforeEach, expect, test } from "vitest";
import type { ByteEvent } from "../../../src/bytes/byte-source";
import { type CachedHttpOptions, cacheEntries, openCachedHttp } from "../../../src/bytes/opfs-cache";
import { expectLlmError } from "../../support/expect-llm-error";
import { type HubServer, startHub } from "../../support/hub-server";
import { MemoryDirectory } from "../../support/memory-directory";
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

test("an immutable file asks the network for nothing but what is missing", async () => {
  await (await visit({ immutable: true })).read({ start: 0, end: 100_000 });
  const source = await visit({ immutable: true });
  await expectRange(source, { start: 0, end: 100_000 }, bytes);
  expect(hub.requests).toEqual([]);
  await expectRange(source, { start: 0, end: SIZE }, bytes);
  expect(sentBytes()).toBeLessThan(SIZE - 100_000 + (32 << 10));
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
