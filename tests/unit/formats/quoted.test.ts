import { describe, expect, test } from "vitest";
import { readSafetensors } from "../../../src/formats/safetensors";
import { readShardedSafetensors } from "../../../src/formats/safetensors-shards";
import { quoted, shortened } from "../../../src/quoted";
import { memorySource } from "../../support/memory-source";

const nested = (depth: number) => `${"[".repeat(depth)}${"]".repeat(depth)}`;

test("short values are quoted as JSON has them", () => {
  for (const value of [null, true, 1.5, 'a"b', [], {}, [1, [2]], { a: [1, null], b: "c" }])
    expect(quoted(value)).toBe(JSON.stringify(value));
  expect(quoted(undefined)).toBe("missing");
});

test.each<[string, unknown]>([
  ["a long text", "x".repeat(1e6)],
  ["a long list", Array.from({ length: 1e5 }, (_, index) => index)],
  ["a list of long texts", Array.from({ length: 100 }, () => "x".repeat(1e4))],
  ["an object of many keys", Object.fromEntries(Array.from({ length: 1e4 }, (_, index) => [index, index]))],
  ["many numbers of a GGUF", new Float64Array(1e6)],
  ["a long key", { ["k".repeat(1e6)]: 1 }],
  ["a value nested 100,000 deep", JSON.parse(nested(100_000))],
])("of %s at most 200 characters are quoted", (_, value) => {
  expect(quoted(value).length).toBeLessThanOrEqual(201);
  expect(shortened(quoted(value))).toBe(quoted(value));
});

describe("a header that nests a value deeply, or has a long name, is refused in few words", () => {
  const source = (header: string) => {
    const bytes = new Uint8Array(8 + header.length);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(header.length), true);
    new TextEncoder().encodeInto(header, bytes.subarray(8));
    return memorySource(bytes);
  };
  const deep = nested(20_000);

  test.each([
    ["shape", `{"a":{"dtype":"F32","shape":${deep},"data_offsets":[0,4]}}`],
    ["data_offsets", `{"a":{"dtype":"F32","shape":[1],"data_offsets":${deep}}}`],
    ["metadata", `{"__metadata__":{"${"k".repeat(1e5)}":1}}`],
    ["name", `{"${"n".repeat(1e5)}":1}`],
    ["dtype", `{"a":{"dtype":"${"t".repeat(1e5)}"}}`],
  ])("%s", async (_, header) => {
    const error = await readSafetensors(source(header)).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ name: "LlmError" });
    expect(String(error).length).toBeLessThan(600);
  });

  test("in an index", async () => {
    const open = () => Promise.reject(new Error("a shard was opened"));
    for (const text of [`{"weight_map":{"a":${deep}}}`, `{"weight_map":{"${"n".repeat(1e5)}":1}}`]) {
      const error = await readShardedSafetensors(text, open).catch((caught: unknown) => caught);
      expect(error).toMatchObject({ code: "bad-file" });
      expect(String(error).length).toBeLessThan(600);
    }
  });
});
