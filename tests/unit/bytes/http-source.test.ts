import { getEventListeners } from "node:events";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { ByteEvent } from "../../../src/bytes/byte-source";
import type { HttpOptions } from "../../../src/bytes/http-client";
import { contentRangeOf } from "../../../src/bytes/http-headers";
import { openHttp } from "../../../src/bytes/http-source";
import { expectLlmError } from "../../support/expect-llm-error";
import { type HubServer, startHub } from "../../support/hub-server";
import { expectRange, randomBytes } from "./test-bytes";

const PATH = "user/model/model.safetensors";
const SIZE = 300_000;
const bytes = randomBytes(SIZE, "http");

let hub: HubServer;
let events: ByteEvent[];
let options: HttpOptions;

beforeEach(async () => {
  hub = await startHub();
  hub.put(PATH, bytes);
  events = [];
  options = { backoffMs: 1, headBytes: 1000, partBytes: 50_000, onEvent: (event) => events.push(event) };
});
afterEach(() => hub.close());

const open = (more: HttpOptions = {}, path = PATH) => openHttp(hub.fileUrl(path), { ...options, ...more });
const fileRequests = () => hub.requests.filter((request) => request.server === "cdn" && request.method === "GET");
const untilOver = async () => {
  while (hub.requests.some((request) => !request.isOver)) await new Promise((resolve) => setTimeout(resolve, 5));
};
const retries = () => events.filter((event) => event.type === "fetch-retry");

describe("a server with ranges", () => {
  test("the first request tells size and version and brings the first bytes, so that a header needs no second one", async () => {
    const source = await open();
    expect(source.size).toBe(SIZE);
    expect(source.version).toMatch(/^"[0-9a-f]{64}"$/);
    await expectRange(source, { start: 8, end: 1000 }, bytes);
    expect(fileRequests().map((request) => request.range)).toEqual(["bytes=0-999"]);
  });

  test("any range, cut into any parts, over connections that are cut anywhere, is the file's", { timeout: 60_000 }, async () => {
    const range = fc.tuple(fc.nat(SIZE), fc.nat(SIZE)).map(([a, b]) => ({ start: Math.min(a, b), end: Math.max(a, b) }));
    const wires = fc.record({ headBytes: fc.integer({ min: 1, max: SIZE * 2 }), partBytes: fc.integer({ min: 20_000, max: SIZE * 2 }) });
    const cuts = fc.integer({ min: 20_000, max: SIZE });
    await fc.assert(
      fc.asyncProperty(fc.array(range, { maxLength: 3 }), wires, cuts, async (ranges, wire, afterBytes) => {
        hub.faults = { cut: { afterBytes } };
        const source = await open(wire);
        await Promise.all(ranges.map((each) => expectRange(source, each, bytes)));
      }),
      { numRuns: 25 },
    );
  });

  test("a range that is cut is asked for again only from where it was cut", async () => {
    const source = await open();
    hub.faults = { cut: { afterBytes: 20_000, times: 1 } };
    hub.requests.length = 0;
    await expectRange(source, { start: 100_000, end: 150_000 }, bytes);
    expect(fileRequests().map((request) => request.range)).toEqual(["bytes=100000-149999", "bytes=120000-149999"]);
    expect(fileRequests().map((request) => request.bytesSent)).toEqual([20_000, 30_000]);
    expect(retries()).toMatchObject([{ range: { start: 120_000, end: 150_000 }, attempt: 2 }]);
  });

  test("the events' bytes add up to what came over the wire", async () => {
    const source = await open();
    await source.read({ start: 0, end: SIZE });
    const received = events.map((event) => (event.type === "bytes-received" && event.origin === "network" ? event.bytes : 0));
    expect(received.reduce((sum, count) => sum + count)).toBe(SIZE);
  });

  test("no more requests run at once than allowed, over all reads of the source", async () => {
    let running = 0;
    let most = 0;
    const counting: typeof fetch = async (...args) => {
      running += 1;
      most = Math.max(most, running);
      const response = await fetch(...args);
      const body = response.body?.pipeThrough(
        new TransformStream({
          flush: () => {
            running -= 1;
          },
        }),
      );
      return new Response(body, response);
    };
    const source = await open({ fetch: counting, concurrency: 3, partBytes: 10_000 });
    await Promise.all([source.read({ start: 1000, end: 200_000 }), source.read({ start: 100_000, end: SIZE })]);
    expect(most).toBe(3);
  });

  test("a redirect is followed once, and again after its address has expired", async () => {
    const source = await open();
    await source.read({ start: 1000, end: 40_000 });
    expect(hub.requests.map((request) => request.server)).toEqual(["hub", "cdn", "cdn"]);
    hub.expireLocations();
    await expectRange(source, { start: 2000, end: 40_000 }, bytes);
    expect(hub.requests.slice(3).map(({ server, status }) => [server, status])).toEqual([
      ["cdn", 403],
      ["hub", 302],
      ["cdn", 206],
    ]);
  });

  test("after a failure the hub is asked anew, which may redirect elsewhere", async () => {
    const source = await open();
    hub.faults = { status: { code: 503, times: 1 } };
    await source.read({ start: 1000, end: 40_000 });
    expect(hub.requests.slice(2).map(({ server }) => server)).toEqual(["cdn", "hub", "cdn"]);
  });

  test("a token reaches the hub and not the server that it redirects to", async () => {
    const source = await open({ headers: { Authorization: "Bearer secret" } });
    await source.read({ start: 1000, end: 2000 });
    expect(hub.requests.map(({ server, headers }) => [server, headers.authorization])).toEqual([
      ["hub", "Bearer secret"],
      ["cdn", undefined],
      ["cdn", undefined],
    ]);
  });

  test("an empty file has size 0 and an empty range", async () => {
    hub.put("user/model/empty.json", new Uint8Array());
    const source = await open({}, "user/model/empty.json");
    expect(source.size).toBe(0);
    expect(await source.read({ start: 0, end: 0 })).toEqual(new Uint8Array());
  });

  test("a range past the end is an error that says where the file ends", async () => {
    const source = await open();
    await expectLlmError(source.read({ start: 0, end: SIZE + 1 }), "bytes-truncated", PATH.slice(11), String(SIZE));
  });
});

describe("a server or network that fails", () => {
  test("what is busy is asked again, and each time an event tells why", async () => {
    const source = await open();
    hub.faults = { status: { code: 503, times: 2 } };
    await expectRange(source, { start: 1000, end: 2000 }, bytes);
    expect(retries()).toMatchObject([
      { attempt: 2, reason: "the server answered 503" },
      { attempt: 3, reason: "the server answered 503" },
    ]);
  });

  test("Retry-After is waited for", async () => {
    const source = await open({ backoffMs: 60_000 });
    hub.faults = { status: { code: 429, times: 1, retryAfter: "0" } };
    await source.read({ start: 1000, end: 2000 });
    expect(retries()).toMatchObject([{ delayMs: 0 }]);
  });

  test("a server that stays busy is given up with its status and the number of tries, and a later read works", async () => {
    const source = await open({ maxAttempts: 3 });
    hub.faults = { status: { code: 500 } };
    await expectLlmError(source.read({ start: 1000, end: 2000 }), "fetch-failed", "500", "3 times");
    hub.faults = {};
    await expectRange(source, { start: 1000, end: 2000 }, bytes);
  });

  test("a connection that is always cut before a byte comes ends as truncated", async () => {
    const source = await open({ maxAttempts: 2 });
    hub.faults = { cut: { afterBytes: 0 } };
    await expectLlmError(source.read({ start: 1000, end: 2000 }), "bytes-truncated", "cut", "2 times");
  });

  test("a connection that is cut over and over, but brings bytes each time, is read to the end", async () => {
    const source = await open({ maxAttempts: 2, partBytes: SIZE });
    hub.faults = { cut: { afterBytes: 30_000 } };
    await expectRange(source, { start: 1000, end: SIZE }, bytes);
  });

  test("a body that ends early without an error, or a shorter range than asked for, is completed", async () => {
    const shortened: typeof fetch = async (...args) => {
      const response = await fetch(...args);
      const body = await response.blob();
      const content = contentRangeOf(response.headers);
      if (content === undefined || content.range.end - content.range.start < 1000) return new Response(body, response);
      const headers = new Headers(response.headers);
      const { start } = content.range;
      if (start % 2 === 0) headers.set("Content-Range", `bytes ${start}-${start + 332}/${content.size}`);
      return new Response(body.slice(0, 333), { status: 206, headers });
    };
    const source = await open({ fetch: shortened, headBytes: 1 });
    await expectRange(source, { start: 1000, end: 4000 }, bytes);
  });

  test("a connection that falls silent counts as cut", async () => {
    const source = await open({ stallMs: 1000 });
    hub.faults = { stall: { afterBytes: 500, times: 1 } };
    await expectRange(source, { start: 1000, end: 2000 }, bytes);
    expect(retries()).toMatchObject([{ range: { start: 1500, end: 2000 }, reason: "no byte came for 1 s" }]);
  });

  test("no server at the address is an error after a few tries", async () => {
    await hub.pause();
    await expectLlmError(open({ maxAttempts: 2 }), "fetch-failed", "no answer", hub.url, "2 times");
  });

  test("one failing part stops the others, and nothing is asked for after it", async () => {
    const source = await open({ maxAttempts: 1, concurrency: 2 });
    hub.faults = { status: { code: 500, times: 1 } };
    hub.requests.length = 0;
    await expectLlmError(source.read({ start: 1000, end: SIZE }), "fetch-failed", "500");
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(hub.requests.length).toBeLessThanOrEqual(2); // of six parts
    await untilOver();
  });
});

describe("a file that is not what it was", () => {
  test("another ETag on a later response is an error", async () => {
    const source = await open();
    hub.faults = { changedEtag: { afterRequests: 0 } };
    await expectLlmError(source.read({ start: 1000, end: 2000 }), "bytes-changed", "another", PATH.slice(11));
  });

  test("another ETag after a cut in mid-range is an error", async () => {
    const source = await open();
    hub.faults = { cut: { afterBytes: 10_000, times: 1 }, changedEtag: { afterRequests: 2 } };
    await expectLlmError(source.read({ start: 1000, end: 50_000 }), "bytes-changed", "another");
  });

  test("a shorter file is an error, also where the range lies past its new end", async () => {
    const source = await open();
    hub.put(PATH, bytes.subarray(0, 5000));
    await expectLlmError(source.read({ start: 1000, end: 2000 }), "bytes-changed", "5000 bytes");
    await expectLlmError(source.read({ start: 6000, end: 7000 }), "bytes-changed", "shorter than 6000");
  });

  test("without an ETag the date tells, and without both the size", async () => {
    hub.faults = { withoutHeaders: ["etag"] };
    const dated = await open();
    expect(dated.version).toMatch(/GMT$/);
    hub.faults = { withoutHeaders: ["etag", "last-modified"] };
    await expectLlmError(dated.read({ start: 1000, end: 2000 }), "bytes-changed", "without ETag or date");
    const sized = await open();
    expect(sized.version).toBeUndefined();
    await expectRange(sized, { start: 1000, end: 2000 }, bytes);
    hub.put(PATH, bytes.subarray(1));
    await expectLlmError(sized.read({ start: 1000, end: 2000 }), "bytes-changed", String(SIZE - 1));
  });

  test("a Content-Range of other bytes is an error that quotes it", async () => {
    const source = await open();
    hub.faults = { wrongContentRange: true };
    await expectLlmError(source.read({ start: 1000, end: 2000 }), "bytes-truncated", "1000-1999", "bytes 1001-1999");
  });

  test("a body longer than its Content-Range is an error", async () => {
    const source = await open({
      fetch: async (...args) => {
        const response = await fetch(...args);
        return new Response(new Blob([await response.arrayBuffer(), "x"]), response);
      },
    }).then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(source).toMatchObject({ code: "bytes-truncated" });
  });
});

describe("what cannot be opened", () => {
  test("a missing file is an error that says what to check", async () => {
    await expectLlmError(open({}, "user/model/absent.json"), "not-found", "404", "absent.json", "names of repository");
  });

  test.each([401, 403])("status %i is an error that tells of gated repositories and tokens", async (code) => {
    hub.faults = { status: { code } };
    await expectLlmError(open(), "fetch-failed", String(code), "gated", "Authorization");
  });

  test("what is no URL is a bad request", async () => {
    await expectLlmError(openHttp("user/model", options), "bad-request", "user/model");
  });
});

describe("an abort", () => {
  test("while bytes come rejects with its reason and ends every connection", async () => {
    const source = await open({ stallMs: 60_000 });
    hub.faults = { stall: { afterBytes: 10 } };
    const abort = new AbortController();
    const read = source.read({ start: 1000, end: SIZE }, abort.signal);
    setTimeout(() => abort.abort("enough"), 50);
    await expect(read).rejects.toBe("enough");
    await untilOver();
    hub.faults = {};
    await expectRange(source, { start: 1000, end: 2000 }, bytes);
  });

  test("while it waits to try again rejects at once", async () => {
    const source = await open({ backoffMs: 60_000 });
    hub.faults = { status: { code: 503 } };
    const abort = new AbortController();
    const read = source.read({ start: 1000, end: 2000 }, abort.signal);
    setTimeout(() => abort.abort("enough"), 50);
    await expect(read).rejects.toBe("enough");
  });

  test("of one read leaves the others alone", async () => {
    const source = await open();
    const abort = new AbortController();
    const aborted = source.read({ start: 1000, end: SIZE }, abort.signal);
    const other = expectRange(source, { start: 2000, end: SIZE }, bytes);
    abort.abort("enough");
    await expect(aborted).rejects.toBe("enough");
    await other;
  });

  test("while opening ends the opening", async () => {
    hub.faults = { stall: { afterBytes: 10 } };
    const abort = new AbortController();
    const opening = open({ signal: abort.signal });
    setTimeout(() => abort.abort("enough"), 50);
    await expect(opening).rejects.toBe("enough");
    await untilOver();
  });

  test("that never comes leaves no listener behind, whether what it was for succeeded or failed", async () => {
    const { signal } = new AbortController();
    const source = await open({ signal, maxAttempts: 2 });
    await source.read({ start: 0, end: SIZE }, signal);
    hub.faults = { cut: { afterBytes: 0 } };
    await expectLlmError(source.read({ start: 1000, end: SIZE }, signal), "bytes-truncated");
    await hub.pause();
    await expectLlmError(source.read({ start: 1000, end: SIZE }, signal), "fetch-failed");
    await expectLlmError(open({ signal, maxAttempts: 2 }), "fetch-failed");
    expect(getEventListeners(signal, "abort")).toEqual([]);
  });

  test("before the read asks for nothing", async () => {
    const source = await open();
    const count = hub.requests.length;
    await expect(source.read({ start: 1000, end: 2000 }, AbortSignal.abort("no"))).rejects.toBe("no");
    expect(hub.requests.length).toBe(count);
  });
});
