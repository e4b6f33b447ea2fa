import { describe, expect, test } from "vitest";
import { readSafetensors } from "../../../src/formats/safetensors";
import { requireTensor } from "../../../src/formats/tensor-directory";
import { expectLlmError } from "../../support/expect-llm-error";
import { memorySource } from "../../support/memory-source";

const NAME = "model.safetensors";
const float = (start: number, end: number, shape = [(end - start) / 4]) => ({ dtype: "F32", shape, data_offsets: [start, end] });

/** A file with this header, be it true or not, and `dataBytes` behind it. */
function fileOf(header: object | string | Uint8Array, dataBytes = 0, statedHeaderBytes?: bigint) {
  const text =
    header instanceof Uint8Array ? header : new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const file = new Uint8Array(8 + text.length + dataBytes);
  new DataView(file.buffer).setBigUint64(0, statedHeaderBytes ?? BigInt(text.length), true);
  file.set(text, 8);
  return memorySource(file, { name: NAME });
}

describe("an honest file", () => {
  test("gives its tensors in the order of their bytes, whatever the order in its header", async () => {
    const source = fileOf({ b: float(8, 24, [2, 2]), a: float(0, 8) }, 24);
    const { tensors } = await readSafetensors(source);
    const dataStart = source.size - 24;
    expect([...tensors.values()]).toEqual([
      { name: "a", type: "F32", shape: [2], source, range: { start: dataStart, end: dataStart + 8 } },
      { name: "b", type: "F32", shape: [2, 2], source, range: { start: dataStart + 8, end: dataStart + 24 } },
    ]);
  });

  test("may hold scalars, empty tensors, free-text metadata and padding behind the header", async () => {
    const header = `${JSON.stringify({ __metadata__: { format: "pt" }, scalar: float(0, 4, []), none: float(0, 0, [0, 7]) })}   `;
    const directory = await readSafetensors(fileOf(header, 4));
    expect([...directory.tensors.keys()]).toEqual(["none", "scalar"]);
    expect(directory.metadata).toEqual(new Map([["format", "pt"]]));
  });

  test("may hold types that we do not compute with, until somebody asks for one", async () => {
    const directory = await readSafetensors(fileOf({ ids: { dtype: "I64", shape: [2], data_offsets: [0, 16] } }, 16));
    expect(directory.tensors.size).toBe(0);
    expect(directory.unsupported.get("ids")).toMatchObject({ type: "I64", shape: [2] });
    expect(() => requireTensor(directory, "ids")).toThrow('"ids" in model.safetensors: type I64, expected one of F32, F16, BF16');
  });

  test("of no tensors is a directory of none", async () => {
    expect((await readSafetensors(fileOf("{}"))).tensors.size).toBe(0);
  });

  test("is read in one request when its header is short, and never beyond the header when it is long", async () => {
    const short = fileOf({ a: float(0, 8) }, 8);
    await readSafetensors(short);
    expect(short.reads).toHaveLength(1);
    const names = Array.from({ length: 3000 }, (_, index) => [`tensor.${index}`, float(4 * index, 4 * index + 4)]);
    const long = fileOf(Object.fromEntries(names), 12_000);
    expect((await readSafetensors(long)).tensors.size).toBe(3000);
    expect(long.reads).toHaveLength(2);
    expect(long.reads[1]).toEqual({ start: 8, end: long.size - 12_000 });
  });

  test("is not read once the signal is aborted", async () => {
    const reason = new Error("the user left");
    await expect(readSafetensors(fileOf("{}"), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });
});

describe("a broken header", () => {
  test.each([
    ["a file shorter than the header's length", memorySource(new Uint8Array(7)), "bytes-truncated", "7 bytes"],
    ["a header that the file's end cuts off", fileOf({ a: float(0, 8) }, 8, 4000n), "bytes-truncated", "ends at byte 4008"],
    ["a header longer than any real one", fileOf("{}", 0, 25_000_001n), "bad-file", "25000001 bytes, expected at most"],
    ["a header of 2^64 - 1 bytes", fileOf("{}", 0, 2n ** 64n - 1n), "bad-file", "18446744073709551615 bytes"],
    ["a header of no bytes", fileOf(""), "bad-file", '"{"'],
    ["a header that begins with a space", fileOf(" {}"), "bad-file", '"{"'],
    ["a header that is an array", fileOf("[]"), "bad-file", '"{"'],
    ["a header that is no JSON", fileOf('{"a":'), "bad-file", "not the JSON"],
    ["a header with bytes behind its JSON", fileOf("{}x"), "bad-file", "not the JSON"],
    [
      "a header that is not UTF-8",
      fileOf(Uint8Array.from('{"__metadata__":{"\xff":""}}', (character) => character.charCodeAt(0))),
      "bad-file",
      "not the JSON",
    ],
    [
      "a doubled tensor",
      fileOf('{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}', 1),
      "bad-file",
      "not the JSON",
    ],
    ["metadata that is a list", fileOf({ __metadata__: ["pt"] }), "bad-file", "__metadata__"],
    ["metadata that is not text", fileOf({ __metadata__: { format: 1 } }), "bad-file", '"format"'],
  ] as const)("%s is refused", async (_, source, code, words) => {
    await expectLlmError(readSafetensors(source), code, source.name, words);
  });
});

describe("a lying tensor", () => {
  const entry = (changes: object) => ({ a: { dtype: "F32", shape: [2, 3], data_offsets: [0, 24], ...changes } });
  test.each([
    ["that is not an object", { a: 7 }, "not an object"],
    ["that is null", { a: null }, "not an object"],
    ["without a dtype", entry({ dtype: undefined }), "no dtype"],
    ["whose dtype is a number", entry({ dtype: 32 }), "no dtype"],
    ["without a shape", entry({ shape: undefined }), "shape"],
    ["whose shape is text", entry({ shape: "23" }), "shape"],
    ["with a negative size", entry({ shape: [-2, -3] }), "shape [-2,-3]"],
    ["with a fractional size", entry({ shape: [1.5, 4] }), "shape [1.5,4]"],
    ["with a size past 2^53", entry({ shape: [2 ** 53, 1] }), "shape"],
    ["of nine dimensions", entry({ shape: [2, 3, 1, 1, 1, 1, 1, 1, 1] }), "at most 8"],
    ["whose sizes multiply past 2^53", entry({ shape: [2 ** 30, 2 ** 30] }), "product below 2^53"],
    ["whose bytes pass 2^53", entry({ shape: [2 ** 52] }), "2^53 bytes"],
    ["that is empty but huge on the way", entry({ shape: [2 ** 30, 2 ** 30, 0] }), "product below 2^53"],
    ["without offsets", entry({ data_offsets: undefined }), "data_offsets"],
    ["with three offsets", entry({ data_offsets: [0, 24, 24] }), "data_offsets"],
    ["with a negative offset", entry({ data_offsets: [-24, 0] }), "data_offsets [-24,0]"],
    ["whose offsets run backwards", entry({ data_offsets: [24, 0] }), "hold -24 bytes"],
    ["with fewer bytes than its shape", entry({ data_offsets: [0, 20] }), "hold 20 bytes, expected 24 (F32 [2, 3])"],
    ["with more bytes than its shape", entry({ shape: [2, 2] }), "hold 24 bytes, expected 16"],
    ["that begins after a gap", { a: float(4, 24) }, "leaves a gap"],
    ["that overlaps another", { a: float(0, 16), b: float(12, 24) }, '"b" in model.safetensors: begins at byte'],
    ["that another covers", { a: float(0, 24), b: float(0, 24) }, "overlaps"],
    ["that leaves bytes at the end", { a: float(0, 20) }, "4 bytes after the last tensor"],
  ])("%s is refused", async (_, header, words) => {
    await expectLlmError(readSafetensors(fileOf(header, 24)), "bad-file", NAME, words);
  });

  test("of an unknown dtype is named, with the dtypes that we know", async () => {
    await expectLlmError(readSafetensors(fileOf(entry({ dtype: "F4" }), 24)), "unsupported", '"a" in model.safetensors', "F4", "BF16");
    await expectLlmError(readSafetensors(fileOf(entry({ dtype: "toString" }), 24)), "unsupported", "toString");
  });

  test("that goes beyond the file's end is called a truncation", async () => {
    await expectLlmError(readSafetensors(fileOf({ a: float(0, 28) }, 24)), "bytes-truncated", NAME, "Download it again");
  });
});
