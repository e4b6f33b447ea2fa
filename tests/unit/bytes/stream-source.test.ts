import { afterEach, beforeEach, expect, test } from "vitest";
import type { ByteEvent } from "../../../src/bytes/byte-source";
import type { HttpOptions } from "../../../src/bytes/http-client";
import { openHttp } from "../../../src/bytes/http-source";
import { expectLlmError } from "../../support/expect-llm-error";
import { type HubFaults, type HubServer, startHub } from "../../support/hub-server";
import { expectRange, randomBytes } from "./test-bytes";

const PATH = "user/model/model.safetensors";
const SIZE = 9_000_000; // more than two of the spool's Blobs
const bytes = randomBytes(SIZE, "stream");

let hub: HubServer;
let events: ByteEvent[];
let life: AbortController;

beforeEach(async () => {
  life = new AbortController();
  hub = await startHub();
  hub.put(PATH, bytes);
  events = [];
});
afterEach(() => {
  life.abort("the test is over");
  return hub.close();
});

const open = (faults: HubFaults = {}, more: HttpOptions = {}) => {
  hub.faults = { ignoreRanges: true, ...faults };
  return openHttp(hub.fileUrl(PATH), { backoffMs: 1, signal: life.signal, onEvent: (event) => events.push(event), ...more });
};
const fileRequests = () => hub.requests.filter((request) => request.server === "cdn" && request.method === "GET");
const untilOver = async () => {
  while (hub.requests.some((request) => !request.isOver)) await new Promise((resolve) => setTimeout(resolve, 5));
};

test("a server that ignores ranges is read as one stream, whatever the order of reads, and one event says so", async () => {
  const source = await open();
  expect(source.size).toBe(SIZE);
  const ranges = [
    { start: 8_999_000, end: SIZE },
    { start: 0, end: 100 },
    { start: 4_194_300, end: 4_194_310 },
    { start: 100, end: 8_500_000 },
    { start: SIZE, end: SIZE },
  ];
  await Promise.all(ranges.map((range) => expectRange(source, range, bytes)));
  await expectRange(source, { start: 5, end: 4_500_000 }, bytes);
  expect(fileRequests().length).toBe(2); // the first one, which told that there are no ranges, and the stream
  expect(events.filter((event) => event.type === "ranges-unsupported")).toEqual([
    { type: "ranges-unsupported", source: hub.fileUrl(PATH) },
  ]);
});

test("a source that nobody reads downloads nothing and holds no connection", async () => {
  await open();
  await untilOver();
  expect(fileRequests().length).toBe(1);
  expect(fileRequests()[0]?.bytesSent).toBeLessThan(SIZE);
});

test("a range near the beginning does not wait for the end of the stream", async () => {
  const source = await open({ stall: { afterBytes: 1_000_000 } });
  await expectRange(source, { start: 10, end: 500_000 }, bytes);
});

test("after a cut the stream starts again and goes on where it was cut", async () => {
  const source = await open();
  hub.faults = { ignoreRanges: true, cut: { afterBytes: 5_000_000, times: 1 } };
  await expectRange(source, { start: 4_000_000, end: SIZE }, bytes);
  expect(events.filter((event) => event.type === "fetch-retry")).toMatchObject([{ range: { start: 5_000_000, end: SIZE } }]);
});

test("a stream that is always cut at one place is given up, and a later read works", async () => {
  const source = await open({}, { maxAttempts: 2 });
  hub.faults = { ignoreRanges: true, cut: { afterBytes: 5_000_000 } };
  const [early, late] = [expectRange(source, { start: 0, end: 1000 }, bytes), source.read({ start: 0, end: SIZE })];
  await Promise.all([early, expectLlmError(late, "bytes-truncated", "2 times")]);
  hub.faults = { ignoreRanges: true };
  await expectRange(source, { start: 0, end: SIZE }, bytes);
});

test("another ETag after a cut is an error", async () => {
  const source = await open();
  hub.faults = { ignoreRanges: true, cut: { afterBytes: 5_000_000, times: 1 }, changedEtag: { afterRequests: 2 } };
  await expectLlmError(source.read({ start: 0, end: SIZE }), "bytes-changed", "another");
});

test("a server that tells no length is read to the end while opening", async () => {
  const source = await open({ hideLength: true });
  expect(source.size).toBe(SIZE);
  await expectRange(source, { start: 4_000_000, end: SIZE }, bytes);
  expect(fileRequests().length).toBe(1);
});

test("ranges whose Content-Range cannot be seen are no ranges", async () => {
  const source = await open({ ignoreRanges: false, withoutHeaders: ["content-range"] });
  expect(source.size).toBe(SIZE);
  await expectRange(source, { start: 1, end: 5_000_000 }, bytes);
  expect(events.filter((event) => event.type === "ranges-unsupported").length).toBe(1);
});

test("a small file comes with the first request", async () => {
  hub.put(PATH, bytes.subarray(0, 2000));
  const source = await open();
  await expectRange(source, { start: 0, end: 2000 }, bytes);
  expect(fileRequests().length).toBe(1);
});

test("the last read to abort ends the stream, an earlier one does not, and a later read starts it anew", async () => {
  const source = await open();
  hub.faults = { ignoreRanges: true, stall: { afterBytes: 1_000_000, times: 1 } };
  const [one, two] = [new AbortController(), new AbortController()];
  const reads = [source.read({ start: 0, end: SIZE }, one.signal), source.read({ start: 0, end: SIZE }, two.signal)];
  setTimeout(() => one.abort("one"), 50);
  await expect(reads[0]).rejects.toBe("one");
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(fileRequests().at(-1)?.isOver).toBe(false);
  two.abort("two");
  await expect(reads[1]).rejects.toBe("two");
  await expectRange(source, { start: 10, end: SIZE }, bytes);
  await untilOver();
});

test("a read that begins while a stopped stream is still ending waits for the next one", async () => {
  let count = 0;
  const slowToEnd: typeof fetch = (input, init) => {
    count += 1;
    if (count !== 2) return fetch(input, init);
    return new Promise((_, reject) => {
      init?.signal?.addEventListener("abort", () => setTimeout(() => reject(init.signal?.reason), 50));
    });
  };
  const source = await open({}, { fetch: slowToEnd });
  const abort = new AbortController();
  const stopped = source.read({ start: 0, end: SIZE }, abort.signal);
  setTimeout(() => abort.abort("enough"), 20);
  await expect(stopped).rejects.toBe("enough");
  hub.faults = { ignoreRanges: true, stall: { afterBytes: 1_000_000, times: 1 } };
  const read = source.read({ start: 0, end: 2_000_000 }, AbortSignal.timeout(300));
  await expect(read).rejects.toThrow("timeout"); // not "enough"
  await expectRange(source, { start: 0, end: SIZE }, bytes);
});

test("the signal that opened the source stops the stream that runs, and fails who waits for it", async () => {
  const source = await open();
  hub.faults = { ignoreRanges: true, stall: { afterBytes: 1_000_000 } };
  const read = source.read({ start: 0, end: SIZE });
  setTimeout(() => life.abort("enough"), 50);
  await expect(read).rejects.toBe("enough");
  await untilOver();
});

// A load's signal is aborted for good when its device is lost: later stages never came from a server without ranges.
test("a read after that begins the file anew, and is ended by its own signal", async () => {
  const source = await open();
  await source.read({ start: 0, end: 1000 });
  life.abort("the device was lost");
  await untilOver();
  await expectRange(source, { start: 5, end: SIZE }, bytes);
  await expectRange(source, { start: 0, end: 100 }, bytes);
  life = new AbortController();
  const later = await open({ stall: { afterBytes: 1_000_000 } });
  const own = new AbortController();
  const read = later.read({ start: 0, end: SIZE }, own.signal);
  setTimeout(() => own.abort("mine"), 50);
  await expect(read).rejects.toBe("mine");
  await untilOver();
});

test("a server without a length that never ends is given up while opening", async () => {
  let sentBytes = 0;
  const endless: typeof fetch = async () =>
    new Response(
      new ReadableStream({
        pull: (controller) => {
          sentBytes += 1 << 20;
          controller.enqueue(new Uint8Array(1 << 20));
        },
      }),
    );
  await expectLlmError(openHttp("https://host.test/config.json", { fetch: endless }), "bad-file", "67108864 bytes", "Content-Length");
  await expectLlmError(openHttp("https://host.test/x", { fetch: endless, maxUnsizedBytes: 1000 }), "bad-file", "1000 bytes");
  expect(sentBytes).toBeLessThan(80 << 20);
});

test("an error page of a second answer is not taken for the file", async () => {
  let count = 0;
  const fetch: typeof globalThis.fetch = async () => {
    count += 1;
    return count === 1 ? new Response("bytes", { status: 206 }) : new Response("<h1>Range Not Satisfiable</h1>", { status: 416 });
  };
  await expectLlmError(openHttp("https://host.test/model.gguf", { fetch }), "fetch-failed", "416");
});
