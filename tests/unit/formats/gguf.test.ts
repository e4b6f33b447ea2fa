import { describe, expect, test } from "vitest";
import type { ByteRange } from "../../../src/bytes/byte-source";
import { readGguf } from "../../../src/formats/gguf";
import { requireTensor } from "../../../src/formats/tensor-directory";
import { expectLlmError } from "../../support/expect-llm-error";
import { GGUF_VALUE_TYPES, type GgufSpec, type GgufTensorSpec, type GgufValue, ggufBytes } from "../../support/gguf-bytes";
import { memorySource } from "../../support/memory-source";

const NAME = "model.gguf";
const F32 = 0;
const Q4_0 = 2;
const Q2_K = 10;

const fileOf = (spec: GgufSpec) => memorySource(ggufBytes(spec), { name: NAME });
const read = (spec: GgufSpec) => readGguf(fileOf(spec));
const withValue = (value: GgufValue, key: string | Uint8Array = "a.key"): GgufSpec => ({ metadata: [[key, value]] });
const strings = (...texts: string[]): GgufValue => ({
  type: "array",
  of: GGUF_VALUE_TYPES.string,
  items: texts.map((value) => ({ type: "string", value })),
});

/** One tensor of 2 rows of 3, changed. */
const withTensor = (changes: Partial<GgufTensorSpec>, rest: GgufSpec = {}): GgufSpec => ({
  tensors: [{ name: "a", type: F32, dimensions: [3, 2], offset: 0, ...changes }],
  dataBytes: 24,
  ...rest,
});

describe("an honest file", () => {
  test.each([2, 3])("of version %i gives tensors with their sizes turned to outermost first", async (version) => {
    const source = fileOf({
      version,
      tensors: [
        { name: "b", type: Q4_0, dimensions: [64, 2], offset: 32 },
        { name: "a", type: F32, dimensions: [3, 2], offset: 0 },
      ],
      dataBytes: 32 + 72,
    });
    const { tensors } = await readGguf(source);
    const dataStart = source.size - 104;
    expect(dataStart % 32).toBe(0);
    expect([...tensors.values()].map(({ source: _, ...tensor }) => tensor)).toEqual([
      { name: "a", type: "F32", shape: [2, 3], range: { start: dataStart, end: dataStart + 24 } },
      { name: "b", type: "Q4_0", shape: [2, 64], range: { start: dataStart + 32, end: dataStart + 104 } },
    ]);
    const { source: tensorSource, range } = requireTensor(await readGguf(source), "b");
    expect(tensorSource).toMatchObject({ name: NAME, size: source.size });
    expect(await tensorSource.read(range)).toEqual(await source.read(range));
  });

  // A first load asked for these bytes a second time: 393 kB of the embedded model.
  test("is asked for each byte once, though its header is read some way into its tensors", async () => {
    const file = ggufBytes({
      tensors: [
        { name: "before a gap", type: F32, dimensions: [3], offset: 0 },
        { name: "long", type: F32, dimensions: [4, 50_000], offset: 64 },
      ],
      dataBytes: 800_064,
    });
    const source = memorySource(file);
    const directory = await readGguf(source);
    const ahead = source.reads.at(-1)?.end ?? 0;
    const [first, long] = [requireTensor(directory, "before a gap"), requireTensor(directory, "long")];
    expect(ahead - long.range.start).toBeGreaterThan(100_000);
    // All that is there, up to its end, past it, and behind it.
    const cuts = [long.range.start, ahead - 5, ahead + 1000, long.range.end];
    const ranges = [first.range, ...cuts.slice(1).map((end, index) => ({ start: cuts[index] ?? 0, end }))];
    for (const range of ranges) expect(Buffer.compare(await long.source.read(range), file.slice(range.start, range.end))).toBe(0);
    expect(source.reads).toEqual([
      { start: 0, end: ahead },
      { start: ahead, end: ahead + 1000 },
      { start: ahead + 1000, end: file.length },
    ]);
    // Nothing of it is held any more: who asks again, as for another device, asks the file.
    expect(await long.source.read(first.range)).toEqual(file.slice(first.range.start, first.range.end));
    expect(source.reads.at(-1)).toEqual(first.range);
  });

  test("may state another alignment, and its tensors are found by it", async () => {
    const source = fileOf(
      withTensor({ offset: 4 }, { metadata: [["general.alignment", { type: "u32", value: 4 }]], alignment: 4, dataBytes: 28 }),
    );
    expect((await readGguf(source)).tensors.get("a")?.range).toEqual({ start: source.size - 24, end: source.size });
  });

  test("may hold scalars, empty tensors and gaps between tensors", async () => {
    const { tensors } = await read({
      tensors: [
        { name: "scalar", type: F32, dimensions: [], offset: 64 },
        { name: "empty", type: F32, dimensions: [0, 8], offset: 64 },
      ],
      dataBytes: 68,
    });
    expect([...tensors.values()].map(({ name, shape }) => [name, shape])).toEqual([
      ["empty", [8, 0]],
      ["scalar", []],
    ]);
  });

  test("may hold types that we do not compute with, until somebody asks for one", async () => {
    const directory = await read({ tensors: [{ name: "a", type: Q2_K, dimensions: [256], offset: 0 }], dataBytes: 84 });
    expect(directory.unsupported.get("a")).toMatchObject({ type: "Q2_K", shape: [256] });
    expect(() => requireTensor(directory, "a")).toThrow('"a" in model.gguf: type Q2_K, expected one of F32');
  });

  test("may hold metadata and nothing else", async () => {
    const directory = await read(withValue({ type: "string", value: "llama" }, "general.architecture"));
    expect(directory.metadata.get("general.architecture")).toBe("llama");
    expect(directory.tensors.size).toBe(0);
  });

  test("is not read once the signal is aborted", async () => {
    const reason = new Error("the user left");
    await expect(readGguf(fileOf({}), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });
});

describe("metadata", () => {
  test.each<[string, GgufValue, unknown]>([
    ["u8", { type: "u8", value: 255 }, 255],
    ["i8", { type: "i8", value: -1 }, -1],
    ["u16", { type: "u16", value: 65_535 }, 65_535],
    ["i16", { type: "i16", value: -2 }, -2],
    ["u32", { type: "u32", value: 4_294_967_295 }, 4_294_967_295],
    ["i32", { type: "i32", value: -3 }, -3],
    ["f32", { type: "f32", value: 1.5 }, 1.5],
    ["f64", { type: "f64", value: 1e-6 }, 1e-6],
    ["u64 that a number holds", { type: "u64", value: 2n ** 53n - 1n }, 2 ** 53 - 1],
    ["u64 that no number holds", { type: "u64", value: 2n ** 53n + 1n }, 2n ** 53n + 1n],
    ["i64 below 0", { type: "i64", value: -5n }, -5],
    ["i64 that no number holds", { type: "i64", value: -(2n ** 63n) }, -(2n ** 63n)],
    ["bool", { type: "bool", value: 1 }, true],
    ["string", { type: "string", value: "Grüße 🌍" }, "Grüße 🌍"],
    ["string that begins with U+FEFF", { type: "string", value: "\ufeffa" }, "\ufeffa"],
    ["array of strings", strings("a", "", "\ufeff"), ["a", "", "\ufeff"]],
    ["array of no strings", strings(), []],
    ["array of bools", { type: "array", of: 7, items: [0, 1].map((value) => ({ type: "bool", value })) }, [false, true]],
    ["array of i32", { type: "array", of: 5, items: [1, -1].map((value) => ({ type: "i32", value })) }, Float64Array.of(1, -1)],
    ["array of f32", { type: "array", of: 6, items: [0.5, -2].map((value) => ({ type: "f32", value })) }, Float64Array.of(0.5, -2)],
    ["array of u64", { type: "array", of: 10, items: [{ type: "u64", value: 7n }] }, Float64Array.of(7)],
  ])("keeps a value: %s", async (_, value, expected) => {
    expect((await read(withValue(value))).metadata.get("a.key")).toEqual(expected);
  });

  test("keeps the order and number of a long vocabulary, through growing ranges and no further than needed", async () => {
    const tokens = Array.from({ length: 60_000 }, (_, index) => `token ${index}`);
    const header = ggufBytes({ metadata: [["tokens", strings(...tokens)]] });
    const file = new Uint8Array(header.length + 4_000_000);
    file.set(header);
    const source = memorySource(file);
    const found = (await readGguf(source)).metadata.get("tokens");
    expect((found as readonly string[]).join("\n")).toBe(tokens.join("\n"));
    expect(header.length).toBeGreaterThan(1_000_000);
    expect(source.reads.length).toBeLessThanOrEqual(3);
    expect(source.reads.at(-1)?.end).toBeLessThan(2 * header.length);
    for (const [index, range] of source.reads.entries()) expect(range.start).toBe(source.reads[index - 1]?.end ?? 0);
  });

  test("reads a long vocabulary in slices, between which others run and an abort ends it", async () => {
    const tokens = Array.from({ length: 100_000 }, (_, index) => `token ${index}`);
    const bytes = fileOf({ metadata: [["tokens", strings(...tokens)]] });
    let runs = 0;
    const timer = setInterval(() => runs++);
    await readGguf(bytes).finally(() => clearInterval(timer));
    expect(runs).toBeGreaterThan(1);
    const abort = new AbortController();
    const reason = new Error("enough");
    setTimeout(() => abort.abort(reason), 5);
    await expect(readGguf(bytes, { signal: abort.signal })).rejects.toBe(reason);
  });

  test.each<[string, string[]]>([
    ["of every length of UTF-8", ["a", "é", "▁", "日本", "🙂", "\u{10FFFF}", "\0", "\n", "", "\ufeffa", "aĠ\n🙂"]],
    ["longer than one lot", ["x".repeat(200_000), "é".repeat(70_000), "end"]],
    ["in several lots", Array.from({ length: 3000 }, (_, index) => `${["é", "🙂", "▁", "\n"][index % 4]} ${index}`)],
  ])("keeps strings of an array: %s", async (_, expected) => {
    expect((await read(withValue(strings(...expected)))).metadata.get("a.key")).toEqual(expected);
  });

  test("strings that are not UTF-8 stay bytes, for whoever needs them to refuse", async () => {
    const latin1 = { type: "string", value: Uint8Array.of(0x41, 0xe9) } as const;
    expect((await read(withValue(latin1))).metadata.get("a.key")).toEqual(Uint8Array.of(0x41, 0xe9));
    const items = [{ type: "string", value: "a" } as const, latin1, { type: "string", value: "é" } as const];
    expect((await read(withValue({ type: "array", of: 8, items }))).metadata.get("a.key")).toEqual(["a", Uint8Array.of(0x41, 0xe9), "é"]);
  });

  test("a character whose bytes are shared out over two strings of an array is in neither", async () => {
    const items = [Uint8Array.of(0x61), Uint8Array.of(0xc3), Uint8Array.of(0xa9)].map((value) => ({ type: "string" as const, value }));
    const found = (await read(withValue({ type: "array", of: 8, items }))).metadata.get("a.key");
    expect(found).toEqual(["a", Uint8Array.of(0xc3), Uint8Array.of(0xa9)]);
  });

  test.each<[string, GgufSpec, string]>([
    ["a type that the format does not have", withValue({ type: "none", number: 13 }), "value type 13"],
    ["an array of a type that the format does not have", withValue({ type: "array", of: 99, items: [] }), "value type 99"],
    ["a bool that is neither 0 nor 1", withValue({ type: "bool", value: 2 }), "boolean 2"],
    ["a key that is not UTF-8", withValue({ type: "u8", value: 1 }, Uint8Array.of(0xff)), "not UTF-8"],
    [
      "a string of 2^64 - 1 bytes",
      withValue({ type: "string", value: "", statedLength: 2n ** 64n - 1n }),
      "string length 18446744073709551615",
    ],
    ["a string longer than any real one", withValue({ type: "string", value: "", statedLength: 2n ** 24n + 1n }), "string length 16777217"],
    ["an array of 2^64 - 1 elements", withValue({ type: "array", of: 8, items: [], statedLength: 2n ** 64n - 1n }), "array length"],
    ["an array longer than any real one", withValue({ type: "array", of: 0, items: [], statedLength: 4_000_001n }), "array length 4000001"],
    ["a key of 65,536 bytes", withValue({ type: "u8", value: 1 }, "k".repeat(65_536)), "string length 65536"],
    ["more entries than any real file", { statedMetadataCount: 4097n }, "metadata count 4097"],
    ["2^64 - 1 entries", { statedMetadataCount: 2n ** 64n - 1n }, "metadata count"],
    [
      "one key twice",
      {
        metadata: [
          ["k", { type: "u8", value: 1 }],
          ["k", { type: "u8", value: 2 }],
        ],
      },
      '"k" is there twice',
    ],
    ["an alignment of 0", withValue({ type: "u32", value: 0 }, "general.alignment"), "general.alignment in model.gguf: 0"],
    ["an alignment that is no power of two", withValue({ type: "u32", value: 48 }, "general.alignment"), "48, expected a power of two"],
    ["a fractional alignment", withValue({ type: "f32", value: 0.5 }, "general.alignment"), "0.5, expected a power of two"],
    ["an alignment in words", withValue({ type: "string", value: "32" }, "general.alignment"), "expected a power of two"],
    ["an alignment of 2^31", withValue({ type: "u32", value: 2 ** 31 }, "general.alignment"), "expected a power of two"],
  ])("with %s is refused", async (_, spec, words) => {
    await expectLlmError(read(spec), "bad-file", NAME, words);
  });

  test("with an array of arrays or a number in an array past 2^53 is not supported", async () => {
    await expectLlmError(read(withValue({ type: "array", of: 9, items: [] })), "unsupported", '"a.key"', "array of arrays");
    const huge: GgufValue = { type: "array", of: 10, items: [{ type: "u64", value: 2n ** 60n }] };
    await expectLlmError(read(withValue(huge)), "unsupported", '"a.key"', "element 0");
  });

  test.each(["f64", "string"] as const)(
    "with more elements of %s than the file has bytes for fails before the first is read",
    async (type) => {
      const source = fileOf(withValue({ type: "array", of: GGUF_VALUE_TYPES[type], items: [], statedLength: 4_000_000n }));
      const words = ['"a.key"', `goes on to byte ${source.size + 8 * 4_000_000}, but the file has ${source.size}`];
      await expectLlmError(readGguf(source), "bytes-truncated", NAME, ...words);
    },
  );

  test("of one part of a split model says how to join the parts", async () => {
    const spec = withValue({ type: "u16", value: 3 }, "split.count");
    await expectLlmError(read(spec), "unsupported", "one of 3 files", "llama-gguf-split --merge");
    await expect(read(withValue({ type: "u16", value: 1 }, "split.count"))).resolves.toBeDefined();
  });
});

describe("the first bytes", () => {
  test.each<[string, GgufSpec, "bad-file" | "unsupported", string]>([
    ["of another format", { magic: "GGML" }, "bad-file", "GGUF"],
    ["of a web page", { magic: "<htm" }, "bad-file", "GGUF"],
    ["of version 0", { version: 0 }, "unsupported", "version 0"],
    ["of version 1", { version: 1 }, "unsupported", "version 1"],
    ["of version 4", { version: 4 }, "unsupported", "version 4"],
    ["of a big-endian file", { version: 0x03000000 }, "unsupported", "big-endian"],
    ["of more tensors than any model has", { statedTensorCount: 200_001n }, "bad-file", "tensor count 200001"],
    ["of 2^64 - 1 tensors", { statedTensorCount: 2n ** 64n - 1n }, "bad-file", "tensor count"],
  ])("%s are refused", async (_, spec, code, words) => {
    await expectLlmError(read(spec), code, NAME, words);
  });

  test("of a file that ends in its header are a truncation, wherever it ends", async () => {
    const bytes = ggufBytes({ ...withTensor({}), metadata: [["tokens", strings("a", "b")]], dataBytes: 0 });
    for (let length = 0; length < bytes.length; length++) {
      await expectLlmError(readGguf(memorySource(bytes.slice(0, length))), "bytes-truncated");
    }
  });
});

describe("a lying tensor", () => {
  test.each<[string, GgufSpec, string]>([
    ["of five dimensions", withTensor({ dimensions: [1, 1, 1, 1, 1] }), "5 dimensions"],
    ["with a size of 2^64 - 1", withTensor({ dimensions: [2n ** 64n - 1n] }), "dimension 18446744073709551615"],
    ["whose sizes multiply past 2^53", withTensor({ dimensions: [2 ** 30, 2 ** 30] }), "product below 2^53"],
    ["whose bytes pass 2^53", withTensor({ dimensions: [2 ** 52] }), "2^53 bytes"],
    [
      "whose rows are no whole blocks",
      withTensor({ type: Q4_0, dimensions: [48, 2] }),
      "rows of 48 elements, expected a multiple of 32 for type Q4_0",
    ],
    ["with an offset of 2^64 - 1", withTensor({ offset: 2n ** 64n - 1n }), "offset 18446744073709551615"],
    ["with an offset off the alignment", withTensor({ offset: 16 }, { dataBytes: 64 }), "offset 16, expected a multiple of 32"],
    ["with a name of 65 bytes", withTensor({ name: "n".repeat(65) }), "string length 65"],
    [
      "called like another",
      { tensors: [0, 32].map((offset) => ({ name: "a", type: F32, dimensions: [1], offset })), dataBytes: 64 },
      '"a" is there twice',
    ],
    [
      "that overlaps another",
      { tensors: [0, 32].map((offset) => ({ name: `t${offset}`, type: F32, dimensions: [9], offset })), dataBytes: 68 },
      'inside "t0"',
    ],
    [
      "that overlaps one which is not the first",
      {
        tensors: [0, 32, 64].map((offset) => ({ name: `t${offset}`, type: F32, dimensions: [offset === 32 ? 9 : 8], offset })),
        dataBytes: 96,
      },
      'inside "t32"',
    ],
    [
      "that lies where another does",
      { tensors: ["a", "b"].map((name) => ({ name, type: F32, dimensions: [8], offset: 0 })), dataBytes: 32 },
      '"b" in model.gguf: begins at byte',
    ],
  ])("%s is refused", async (_, spec, words) => {
    await expectLlmError(read(spec), "bad-file", NAME, words);
  });

  test("of an unknown type number is named", async () => {
    await expectLlmError(read(withTensor({ name: "blk.0.ffn_up.weight", type: 99 })), "unsupported", '"blk.0.ffn_up.weight"', NAME, "99");
  });

  test.each([4, 5, 31, 36])("of type number %i, which was taken back, is unknown", async (type) => {
    await expectLlmError(read(withTensor({ type })), "unsupported", `tensor type ${type}`);
  });

  test("that goes beyond the file's end is called a truncation", async () => {
    await expectLlmError(read(withTensor({}, { dataBytes: 23 })), "bytes-truncated", '"a" in model.gguf', "Download it again");
    await expectLlmError(read(withTensor({ offset: 2 ** 40 })), "bytes-truncated", '"a" in model.gguf');
  });
});

test("a header that never ends is given up at the limit, however large the file", async () => {
  const source = endlessSource();
  await expectLlmError(readGguf(source), "bad-file", "expected headers of at most 67108864");
  expect(source.largestEnd).toBeLessThanOrEqual(64 * 1024 * 1024);
});

/** A file of 1 TiB that begins with metadata entries of 16 MiB of zeros each: nothing but the limit on the header ends them. */
function endlessSource() {
  const textBytes = 2 ** 24;
  const entry = (index: number) =>
    ggufBytes(withValue({ type: "string", value: "", statedLength: BigInt(textBytes) }, `${index}`)).slice(24);
  const chunks: { readonly start: number; readonly bytes: Uint8Array }[] = [{ start: 0, bytes: ggufBytes({ statedMetadataCount: 4096n }) }];
  for (let index = 0, start = 24; index < 5; index++) {
    const bytes = entry(index);
    chunks.push({ start, bytes });
    start += bytes.length + textBytes;
  }
  const source = {
    name: NAME,
    size: 2 ** 40,
    largestEnd: 0,
    async read({ start, end }: ByteRange) {
      source.largestEnd = Math.max(source.largestEnd, end);
      const range = new Uint8Array(end - start);
      for (const chunk of chunks) {
        for (const [index, byte] of chunk.bytes.entries()) {
          const at = chunk.start + index - start;
          if (at >= 0 && at < range.length) range[at] = byte;
        }
      }
      return range;
    },
  };
  return source;
}
