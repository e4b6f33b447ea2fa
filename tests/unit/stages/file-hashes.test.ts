import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { verifySource } from "../../../src/bytes/verified-source";
import { parseFileHashes } from "../../../src/stages/file-hashes";
import { memorySource } from "../../support/memory-source";
import { randomBytes } from "../bytes/test-bytes";

const MIB = 2 ** 20;
const digests = (chunkCount: number) => Buffer.from(randomBytes(16 * chunkCount, "digests"));
const ENTRY = { bytes: 10_000, chunkBytes: 4096, sha256: digests(3).toString("base64") };
const parse = (json: unknown) => parseFileHashes(json, "progressive.json");

test("hashes survive being written and read", () => {
  const entry = fc
    .record({ chunkBytes: fc.integer({ min: 12, max: 24 }).map((power) => 2 ** power), chunkCount: fc.integer({ min: 1, max: 5 }) })
    .chain(({ chunkBytes, chunkCount }) =>
      fc.record({
        chunkBytes: fc.constant(chunkBytes),
        bytes: fc.integer({ min: (chunkCount - 1) * chunkBytes + 1, max: chunkCount * chunkBytes }),
        sha256: fc.uint8Array({ minLength: 16 * chunkCount, maxLength: 16 * chunkCount }),
      }),
    );
  const fileName = fc.string({ minLength: 1 }).filter((name) => name.trim() !== "");
  fc.assert(
    fc.property(fc.dictionary(fileName, entry, { minKeys: 1, maxKeys: 3 }), (files) => {
      const written = Object.entries(files).map(([name, { bytes, chunkBytes, sha256 }]) => [
        name,
        { bytes, chunkBytes, sha256: Buffer.from(sha256).toString("base64") },
      ]);
      const read = parse(JSON.parse(JSON.stringify(Object.fromEntries(written))));
      expect(Object.fromEntries(read)).toEqual({ ...files });
    }),
  );
});

describe("an error names the place, the value found and the value expected:", () => {
  const entry = (changes: object) => ({ "model.gguf": { ...ENTRY, ...changes } });
  test.each([
    ["no object", [], "hashes is [], expected an object"],
    ["null", null, "hashes is null, expected an object"],
    ["nothing", undefined, "hashes is missing, expected an object"],
    ["no file", {}, "hashes is {}, expected at least one file"],
    ["a file without a name", { " ": ENTRY }, 'hashes[" "] is'],
    ["an entry that is no object", { "model.gguf": "abc" }, 'hashes["model.gguf"] is "abc", expected an object'],
    ["a key that nobody knows", entry({ sha265: "" }), 'hashes["model.gguf"].sha265 is "", expected no such key'],
    ["no size", entry({ bytes: undefined }), 'hashes["model.gguf"].bytes is missing, expected a whole number'],
    ["an empty file", entry({ bytes: 0, sha256: "" }), ".bytes is 0, expected a whole number of at least 1"],
    ["a size as text", entry({ bytes: "10000" }), '.bytes is "10000", expected a whole number'],
    ["a broken size", entry({ bytes: 9999.5 }), ".bytes is 9999.5, expected a whole number"],
    ["a size past 2^53", entry({ bytes: 2 ** 53 }), `.bytes is ${2 ** 53}, expected a whole number`],
    ["chunks that are no power of two", entry({ chunkBytes: 5000 }), ".chunkBytes is 5000, expected a power of two from 4096 to 16777216"],
    [
      "chunks that are too small",
      entry({ chunkBytes: 2048, sha256: digests(5).toString("base64") }),
      ".chunkBytes is 2048, expected a power",
    ],
    ["chunks that are too large", entry({ chunkBytes: 32 * MIB, sha256: digests(1).toString("base64") }), "expected a power of two"],
    ["more than 2^20 chunks", entry({ bytes: 4096 * MIB + 1 }), "larger chunks: 4294967297 bytes are 1048577 of them, the most is 1048576"],
    ["no digests", entry({ sha256: undefined }), ".sha256 is missing, expected base64 of 64 characters: 3 digests of 16 bytes"],
    ["digests as a list", entry({ sha256: [1, 2] }), ".sha256 is [1,2], expected base64"],
    ["a digest too few", entry({ sha256: digests(2).toString("base64") }), "expected base64 of 64 characters: 3 digests of 16 bytes"],
    ["a digest too many", entry({ sha256: digests(4).toString("base64") }), "expected base64"],
    ["whole digests of 32 bytes", entry({ sha256: digests(6).toString("base64") }), "expected base64"],
    ["digests in hexadecimal", entry({ sha256: digests(3).toString("hex") }), "expected base64"],
  ])("%s", (_, json, message) => {
    expect(() => parse(json)).toThrow(
      expect.objectContaining({ code: "bad-file", message: expect.stringContaining(`progressive.json: `) }),
    );
    expect(() => parse(json)).toThrow(message);
  });

  const json = (chunkCount: number, sha256: string) => ({ "model.gguf": { bytes: 4096 * chunkCount, chunkBytes: 4096, sha256 } });

  test.each([1, 2, 3])("base64 of %i digests with any wrong character", (chunkCount) => {
    const sha256 = digests(chunkCount).toString("base64");
    expect(parse(json(chunkCount, sha256)).size).toBe(1);
    fc.assert(
      fc.property(fc.nat(20 * chunkCount), fc.constantFrom("-", "_", "=", " ", "\n", "é", "", "AA"), (at, character) => {
        const changed = sha256.slice(0, at) + character + sha256.slice(at + 1);
        expect(() => parse(json(chunkCount, changed))).toThrow("expected base64");
      }),
    );
  });

  test.each([
    [1, "A=", "one padding character for two"],
    [1, "AA", "none for two"],
    [2, "A", "none for one"],
  ])("base64 of %i digests that ends in %s: %s", (chunkCount, ending) => {
    const sha256 = digests(chunkCount).toString("base64").replace(/=+$/, ending);
    expect(() => parse(json(chunkCount, sha256))).toThrow("expected base64");
  });

  test("a long text, whose beginning is shown", () => {
    expect(() => parse(entry({ sha256: "A".repeat(5000) }))).toThrow(/sha256 is "A{199}…, expected/);
  });
});

test("the maximum number of chunks can be read", () => {
  const sha256 = Buffer.alloc(16 * MIB, 7).toString("base64");
  const hashes = parse({ "model.gguf": { bytes: 4096 * MIB, chunkBytes: 4096, sha256 } }).get("model.gguf");
  expect(Buffer.compare(hashes?.sha256 ?? Buffer.alloc(0), Buffer.alloc(16 * MIB, 7))).toBe(0);
}, 60_000);

test("the hashes printed by tools/hash-file.ts match the file's bytes", async () => {
  const folder = mkdtempSync(join(tmpdir(), "hash-file-"));
  try {
    const content = randomBytes(50_001, "hash-file");
    const path = join(folder, "model.gguf");
    writeFileSync(path, content);
    for (const chunkBytes of [4096, 65_536]) {
      const args = ["tools/run.mjs", "tools/hash-file.ts", path, ...(chunkBytes === 65_536 ? [] : [String(chunkBytes)])];
      const hashes = parse(JSON.parse(execFileSync(process.execPath, args, { encoding: "utf8" }))).get("model.gguf");
      if (!hashes) throw new Error("no entry for the file");
      expect([hashes.bytes, hashes.chunkBytes]).toEqual([50_001, chunkBytes]);
      await verifySource(memorySource(content), hashes).read({ start: 0, end: content.length });
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}, 60_000); // two starts of Node and Vite
