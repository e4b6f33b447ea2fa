import { createHash } from "node:crypto";
import { type BrowserContext, expect, type Page, test } from "@playwright/test";
import { build } from "vite";
import type { ByteRange } from "../../../src/bytes/byte-source";
import { type HubServer, startHub } from "../../support/hub-server";
import { seededRandom } from "../../support/random";
import type { BytesPage, Visit } from "./page";

declare const bytesPage: BytesPage;

const PATH = "user/model/model.safetensors";
const SIZE = 10_000_000;
const WHOLE = { start: 0, end: SIZE };
const bytes = Uint8Array.from(seededRandom("e2e bytes").ids(SIZE, 256));

let script: string;
let hub: HubServer;

test.beforeAll(async () => {
  const output = await build({
    configFile: false,
    logLevel: "error",
    publicDir: false,
    build: { write: false, target: "es2022", lib: { entry: "tests/e2e/bytes/page.ts", formats: ["es"] } },
  });
  const [bundle] = Array.isArray(output) ? output : [output];
  const chunk = bundle && "output" in bundle ? bundle.output.find((file) => file.type === "chunk") : undefined;
  script = chunk?.code ?? "";
});
test.beforeEach(async () => {
  hub = await startHub();
  hub.put(PATH, bytes);
});
test.afterEach(() => hub.close());

/** A page of the e2e server's origin: another than the hub's, which is another than its CDN's. */
async function openPage(context: BrowserContext): Promise<Page> {
  const page = await context.newPage();
  await page.route("**/page.js", (route) => route.fulfill({ contentType: "text/javascript", body: script }));
  await page.goto("/tests/e2e/bytes/page.html");
  return page;
}

interface VisitOptions {
  readonly cache?: boolean;
  readonly partBytes?: number;
}

function visit(page: Page, ranges: readonly ByteRange[], { cache = true, ...more }: VisitOptions = {}): Promise<Visit> {
  const options = { cache, ...more };
  return page.evaluate(([url, asked, given]) => bytesPage.visit(url, asked, given), [hub.fileUrl(PATH), ranges, options] as const);
}

const digestOf = ({ start, end }: ByteRange) => createHash("sha256").update(bytes.subarray(start, end)).digest("hex");
const types = ({ events }: Visit) => [...new Set(events.map(({ type }) => type))].sort();
const receivedBytes = ({ events }: Visit) => events.reduce((sum, event) => sum + (event.type === "bytes-received" ? event.bytes : 0), 0);
const sentBytes = () => hub.requests.reduce((sum, { bytesSent }) => sum + bytesSent, 0);

test("a page reads a file that is redirected to another origin, by its ETag and without asking leave (CORS preflight)", async ({
  context,
}) => {
  const page = await openPage(context);
  const { size, version, digests } = await visit(page, [WHOLE, { start: 5_000_000, end: 5_000_100 }], { cache: false });
  expect(size).toBe(SIZE);
  expect(version).toMatch(/^"[0-9a-f]{64}"$/);
  expect(digests).toEqual([digestOf(WHOLE), digestOf({ start: 5_000_000, end: 5_000_100 })]);
  expect(hub.requests.map(({ method }) => method)).not.toContain("OPTIONS");
  expect(hub.requests.filter(({ server }) => server === "hub").length).toBe(1);
});

test("a connection that is cut in the page is resumed where it was cut", async ({ context }) => {
  const page = await openPage(context);
  hub.faults = { cut: { afterBytes: 1_000_000 } };
  const read = await visit(page, [WHOLE], { cache: false });
  expect(read.digests).toEqual([digestOf(WHOLE)]);
  expect(types(read)).toContain("fetch-retry");
  // What the server sent says nothing: a cut loses what is on its way. No byte that arrived comes again.
  expect(receivedBytes(read)).toBe(SIZE);
});

test("headers that CORS hides leave the date as version, or the file as one stream", async ({ context }) => {
  const page = await openPage(context);
  hub.faults = { hiddenHeaders: ["etag"] };
  const dated = await visit(page, [WHOLE], { cache: false });
  expect([dated.version?.endsWith("GMT"), dated.digests[0]]).toEqual([true, digestOf(WHOLE)]);
  hub.faults = { hiddenHeaders: ["etag", "content-range"] };
  const streamed = await visit(page, [{ start: 9_000_000, end: SIZE }, WHOLE], { cache: false });
  expect(streamed.size).toBe(SIZE);
  expect(streamed.digests).toEqual([digestOf({ start: 9_000_000, end: SIZE }), digestOf(WHOLE)]);
  expect(types(streamed)).toContain("ranges-unsupported");
});

test("a server without ranges is read once, spooled into Blobs", async ({ context }) => {
  const page = await openPage(context);
  hub.faults = { ignoreRanges: true };
  const { digests } = await visit(page, [{ start: 9_000_000, end: SIZE }, { start: 4_000_000, end: 5_000_000 }, WHOLE], { cache: false });
  expect(digests).toEqual([digestOf({ start: 9_000_000, end: SIZE }), digestOf({ start: 4_000_000, end: 5_000_000 }), digestOf(WHOLE)]);
  expect(hub.requests.filter(({ server }) => server === "cdn").length).toBe(2);
});

test("an abort in the page ends every connection", async ({ context }) => {
  const page = await openPage(context);
  hub.faults = { stall: { afterBytes: 100_000 } };
  const reason = await page.evaluate((url) => bytesPage.abortedVisit(url, 100), hub.fileUrl(PATH));
  expect(reason).toBe("enough");
  await expect.poll(() => hub.requests.every(({ isOver }) => isOver)).toBe(true);
});

test("after a reload, and without network, the file comes from OPFS", async ({ context }) => {
  const page = await openPage(context);
  expect((await visit(page, [WHOLE])).digests).toEqual([digestOf(WHOLE)]);
  expect(sentBytes()).toBe(SIZE);
  await page.reload();
  await hub.pause();
  const offline = await visit(page, [WHOLE, { start: 3, end: 4_194_310 }]);
  expect(offline.digests).toEqual([digestOf(WHOLE), digestOf({ start: 3, end: 4_194_310 })]);
  expect(types(offline)).toEqual(["bytes-received", "offline-cache-used"]);
  await hub.resume();
  expect((await visit(page, [WHOLE])).digests).toEqual([digestOf(WHOLE)]);
  expect(sentBytes()).toBe(SIZE + 1);
  const entries = await page.evaluate(() => bytesPage.cacheEntries());
  expect(entries).toMatchObject([{ url: hub.fileUrl(PATH), size: SIZE, cachedBytes: SIZE }]);
  expect(await page.evaluate((url) => bytesPage.deleteCacheEntry(url), hub.fileUrl(PATH))).toBe(true);
  expect(await page.evaluate(() => bytesPage.cacheEntries())).toEqual([]);
});

test("a page that is closed in the middle of filling the cache leaves a cache that is right", async ({ context }) => {
  const ranges = Array.from({ length: 100 }, (_, index) => ({ start: index * 100_000, end: (index + 1) * 100_000 }));
  const closing = await openPage(context);
  const unfinished = visit(closing, ranges).catch((error: unknown) => error);
  while (sentBytes() < SIZE / 2) await new Promise((resolve) => setTimeout(resolve, 1));
  await closing.close();
  await unfinished;
  const { digests } = await visit(await openPage(context), ranges);
  expect(digests).toEqual(ranges.map(digestOf));
  expect(sentBytes()).toBeGreaterThan(SIZE / 2);
});

test("two tabs that fill the cache at once leave a cache that is right", async ({ context }) => {
  const tabs = [await openPage(context), await openPage(context)];
  const ranges = [WHOLE, { start: 1_000_000, end: 6_000_000 }];
  for (const { digests } of await Promise.all(tabs.map((tab) => visit(tab, ranges)))) expect(digests).toEqual(ranges.map(digestOf));
  const before = sentBytes();
  for (const tab of tabs) expect((await visit(tab, ranges)).digests).toEqual(ranges.map(digestOf));
  expect(sentBytes() - before).toBe(2);
});

/** Whether OPFS takes no more file of so many bytes. */
function refuses(page: Page, byteCount: number): Promise<boolean> {
  return page.evaluate(async (size) => {
    const root = await navigator.storage.getDirectory();
    const writable = await (await root.getFileHandle("probe", { create: true })).createWritable();
    const write = async () => {
      await writable.write(new Uint8Array(size));
      await writable.close();
    };
    const isRefused = await write().then(
      () => false,
      () => true,
    );
    await root.removeEntry("probe");
    return isRefused;
  }, byteCount);
}

test("a full quota is told once, and the file is read all the same", async ({ context, baseURL }) => {
  const page = await openPage(context);
  const devtools = await context.newCDPSession(page);
  await devtools.send("Storage.overrideQuotaForOrigin", { origin: String(baseURL), quotaSize: 5_000_000 });
  await expect.poll(() => refuses(page, 6_000_000)).toBe(true); // the browser says yes before it goes by it
  const read = await visit(page, [WHOLE]);
  expect(read.digests).toEqual([digestOf(WHOLE)]);
  // Chromium names the quota, or, where the refusal overtakes the bytes, only the pipe that it closed on them.
  expect(read.events.filter(({ type }) => type === "cache-unavailable")).toMatchObject([
    { reason: expect.stringMatching(/QuotaExceeded|Failed to write data/) },
  ]);
});
