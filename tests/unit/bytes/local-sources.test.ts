import { appendFile, mkdtemp, rm, truncate, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openBlob } from "../../../src/bytes/blob-source";
import type { ByteEvent } from "../../../src/bytes/byte-source";
import { openFile } from "../../../src/bytes/file-source";
import { expectLlmError } from "../../support/expect-llm-error";
import { expectRange, randomBytes } from "./test-bytes";

const SIZE = 10_000;
const bytes = randomBytes(SIZE, "local");
const ranges = fc.tuple(fc.nat(SIZE), fc.nat(SIZE)).map(([a, b]) => ({ start: Math.min(a, b), end: Math.max(a, b) }));

describe("a file on disk", () => {
  let folder: string;
  let path: string;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "crescendo-bytes-"));
    path = join(folder, "model.gguf");
    await writeFile(path, bytes);
  });
  afterEach(() => rm(folder, { recursive: true }));

  test("gives any of its ranges", async () => {
    const source = await openFile(path);
    expect(source.size).toBe(SIZE);
    await fc.assert(
      fc.asyncProperty(ranges, (range) => expectRange(source, range, bytes)),
      { numRuns: 50 },
    );
  });

  test("that grew, shrank or was written again since it was opened is an error", async () => {
    const grown = await openFile(path);
    await appendFile(path, "x");
    await expectLlmError(grown.read({ start: 0, end: 10 }), "bytes-changed", path, "10001 now");
    const shrunk = await openFile(path);
    await truncate(path, 5000);
    await expectLlmError(shrunk.read({ start: 4000, end: 6000 }), "bytes-changed", "5000 now");
    const dated = await openFile(path);
    await utimes(path, 1, 1);
    await expectLlmError(dated.read({ start: 0, end: 10 }), "bytes-changed");
  });

  test("that is not there, then or by now, is not found; a folder is no file", async () => {
    await expectLlmError(openFile(join(folder, "absent")), "not-found", "absent");
    await expectLlmError(openFile(folder), "fetch-failed", "not a file");
    const source = await openFile(path);
    await rm(path);
    await expectLlmError(source.read({ start: 0, end: 10 }), "not-found", path);
  });

  test("is not read past its end, nor after an abort", async () => {
    const source = await openFile(path);
    await expectLlmError(source.read({ start: 0, end: SIZE + 1 }), "bytes-truncated", String(SIZE));
    await expect(source.read({ start: 0, end: 10 }, AbortSignal.abort("enough"))).rejects.toBe("enough");
    await expect(source.read({ start: 5, end: 4 })).rejects.toThrow("no byte range");
  });
});

describe("a Blob in the page", () => {
  test("gives any of its ranges, and an event for each", async () => {
    const events: ByteEvent[] = [];
    const source = openBlob(new Blob([bytes]), { name: "dropped", onEvent: (event) => events.push(event) });
    await fc.assert(
      fc.asyncProperty(ranges, (range) => expectRange(source, range, bytes)),
      { numRuns: 50 },
    );
    events.length = 0;
    await source.read({ start: 5, end: 25 });
    expect(events).toEqual([{ type: "bytes-received", source: "dropped", bytes: 20, origin: "local" }]);
  });

  test("has a File's name, and its date as version", () => {
    const source = openBlob(new File([bytes], "model.gguf", { lastModified: 12 }));
    expect(source).toMatchObject({ name: "model.gguf", size: SIZE, version: "12" });
  });

  test("whose file changed on disk is an error that says what to do", async () => {
    const file = new File([bytes], "model.gguf");
    file.slice = () => {
      const part = new Blob();
      part.arrayBuffer = () => Promise.reject(new DOMException("changed", "NotReadableError"));
      return part;
    };
    await expectLlmError(openBlob(file).read({ start: 0, end: 10 }), "bytes-changed", "model.gguf", "Choose it again");
  });

  test("is not read past its end, nor after an abort", async () => {
    const source = openBlob(new Blob([bytes]));
    await expectLlmError(source.read({ start: 0, end: SIZE + 1 }), "bytes-truncated", String(SIZE));
    const abort = new AbortController();
    const read = source.read({ start: 0, end: 10 }, abort.signal);
    abort.abort("enough");
    await expect(read).rejects.toBe("enough");
  });
});
