// The demo page's throttled connection: shared, even, and exactly as fast as set.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { LinkThrottle } from "../../../demo/throttled-fetch";

const KB = 1000;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

/** Answers each request with a body of the given size, in chunks. */
function serve(bytes: number, chunkBytes = 64 << 10): void {
  vi.stubGlobal("fetch", async (_url: string, init?: RequestInit) => {
    const file = Uint8Array.from({ length: bytes }, (_, index) => index % 251);
    let sent = 0;
    const body = new ReadableStream({
      pull(controller) {
        if (init?.signal?.aborted) return controller.error(init.signal.reason);
        if (sent >= bytes) return controller.close();
        controller.enqueue(file.subarray(sent, sent + chunkBytes));
        sent += chunkBytes;
      },
    });
    return new Response(body, { status: 206, headers: { "Content-Range": `bytes 0-${bytes - 1}/${bytes}` } });
  });
}

interface Reading {
  bytes: number;
  readonly chunks: number[];
  readonly done: Promise<void>;
}

function read(link: LinkThrottle, init?: RequestInit): Reading {
  const chunks: number[] = [];
  const run = async () => {
    const { body } = await link.fetch("https://example.org/model.gguf", init);
    for (const reader = body?.getReader(); ; ) {
      const next = await reader?.read();
      if (!next || next.done) return;
      reading.bytes += next.value.length;
      chunks.push(...next.value);
    }
  };
  const reading: Reading = { bytes: 0, chunks, done: Promise.resolve() };
  return Object.assign(reading, { done: run() });
}

function throttle(megabitsPerSecond: number | null): LinkThrottle {
  const link = new LinkThrottle();
  link.setSpeed(megabitsPerSecond);
  return link;
}

test("a body arrives at the chosen speed, complete and in order", async () => {
  serve(2000 * KB);
  const reading = read(throttle(8)); // 1 MB a second
  await vi.advanceTimersByTimeAsync(1000);
  expect(reading.bytes).toBeGreaterThan(960 * KB);
  expect(reading.bytes).toBeLessThan(1040 * KB);
  await vi.advanceTimersByTimeAsync(1050);
  await reading.done;
  expect(reading.chunks.length).toBe(2000 * KB);
  expect(reading.chunks.every((byte, index) => byte === index % 251)).toBe(true);
});

test("concurrent responses share the link evenly", async () => {
  serve(1000 * KB);
  const link = throttle(8);
  const readings = [1, 2, 3, 4].map(() => read(link));
  await vi.advanceTimersByTimeAsync(2000);
  for (const { bytes } of readings) {
    expect(bytes).toBeGreaterThan(460 * KB);
    expect(bytes).toBeLessThan(540 * KB);
  }
});

test("an idle link passes the first bytes at once", async () => {
  serve(4 * KB);
  const link = throttle(8);
  await vi.advanceTimersByTimeAsync(5000);
  const reading = read(link);
  await vi.advanceTimersByTimeAsync(0);
  await reading.done;
  expect(reading.bytes).toBe(4 * KB);
});

test("a long idle time is not saved up", async () => {
  serve(1000 * KB);
  const link = throttle(8);
  await vi.advanceTimersByTimeAsync(60_000);
  const reading = read(link);
  await vi.advanceTimersByTimeAsync(500);
  expect(reading.bytes).toBeLessThan(560 * KB);
});

test("a late timer, as in a hidden tab, costs no throughput", async () => {
  serve(4000 * KB);
  const link = throttle(8);
  const reading = read(link);
  await vi.advanceTimersByTimeAsync(100);
  const nowMs = performance.now();
  const late = vi.spyOn(performance, "now");
  late.mockImplementation(() => nowMs + 1000); // one second passes before the next timer
  await vi.advanceTimersByTimeAsync(50);
  expect(reading.bytes).toBeGreaterThan(1060 * KB);
  late.mockRestore();
});

test("a new speed applies to all further bytes, and no limit passes everything", async () => {
  serve(4000 * KB);
  const link = throttle(8);
  const reading = read(link);
  await vi.advanceTimersByTimeAsync(1000);
  link.setSpeed(80);
  await vi.advanceTimersByTimeAsync(100);
  expect(reading.bytes).toBeGreaterThan(1900 * KB);
  expect(reading.bytes).toBeLessThan(2150 * KB);
  link.setSpeed(null);
  await vi.advanceTimersByTimeAsync(0);
  await reading.done;
  expect(reading.bytes).toBe(4000 * KB);
});

test("a body that was not throttled is throttled as soon as a speed is chosen", async () => {
  serve(4000 * KB);
  const link = throttle(null);
  const { body } = await link.fetch("https://example.org/");
  const reader = body?.getReader();
  expect((await reader?.read())?.value?.length).toBe(64 << 10);
  link.setSpeed(8);
  let bytes = 0;
  const rest = (async () => {
    for (let next = await reader?.read(); next && !next.done; next = await reader?.read()) bytes += next.value.length;
  })();
  await vi.advanceTimersByTimeAsync(1000);
  expect(bytes).toBeLessThan(1050 * KB);
  link.setSpeed(null);
  await rest;
});

test("an abort ends a waiting body, and the others get its share", async () => {
  serve(4000 * KB);
  const link = throttle(8);
  const abort = new AbortController();
  const aborted = read(link, { signal: abort.signal });
  const other = read(link);
  await vi.advanceTimersByTimeAsync(1000);
  const reason = new Error("the reader left");
  abort.abort(reason);
  await expect(aborted.done).rejects.toBe(reason);
  const before = other.bytes;
  await vi.advanceTimersByTimeAsync(1000);
  expect(other.bytes - before).toBeGreaterThan(960 * KB);
  expect(aborted.bytes).toBeLessThan(540 * KB);
});

test("a reader that cancels a body ends the request", async () => {
  let isCancelled = false;
  const body = new ReadableStream({
    pull: (controller) => controller.enqueue(new Uint8Array(64 << 10)),
    cancel: () => {
      isCancelled = true;
    },
  });
  vi.stubGlobal("fetch", async () => new Response(body));
  const response = await throttle(8).fetch("https://example.org/");
  await response.body?.cancel();
  expect(isCancelled).toBe(true);
});

test("a response keeps its status, headers and final address", async () => {
  const original = new Response("abc", { status: 206, headers: { ETag: '"1"' } });
  Object.defineProperties(original, { url: { value: "https://cdn.example.org/x" }, redirected: { value: true } });
  vi.stubGlobal("fetch", async () => original);
  const { status, headers, url, redirected } = await throttle(10).fetch("https://example.org/x");
  expect([status, headers.get("ETag"), url, redirected]).toEqual([206, '"1"', "https://cdn.example.org/x", true]);
});
