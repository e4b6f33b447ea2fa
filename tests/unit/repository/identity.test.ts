// When K/V that was computed earlier may be used again: only where the same weights computed it.
import { describe, expect, test } from "vitest";
import { openBlob } from "../../../src/bytes/blob-source";
import type { ByteSource } from "../../../src/bytes/byte-source";
import { verifySource } from "../../../src/bytes/verified-source";
import { directoryOf, type MetadataValue, type TensorDirectory } from "../../../src/formats/tensor-directory";
import { ggufTokenizerIdentity, jsonTokenizerIdentity, weightsIdentity } from "../../../src/repository/identity";
import { Tokenizer } from "../../../src/tokens/tokenizer";
import type { ModelConfig } from "../../../src/weights/model-config";
import { memorySource } from "../../support/memory-source";
import { hashesOf } from "../bytes/hashed-file";

const CONFIG = { family: "llama", layerCount: 2, hiddenSize: 64, rope: { theta: 10_000, dimensions: 16 } } as unknown as ModelConfig;

function source(name: string, more: Partial<ByteSource> = {}): ByteSource {
  return { ...memorySource(new Uint8Array(100), { name }), version: '"1"', ...more };
}

function directory(...sources: readonly ByteSource[]): TensorDirectory {
  const stored = sources.flatMap((each, index) =>
    ["a", "b"].map((tensor) => ({ name: `${index}.${tensor}`, type: "F32", shape: [1], source: each, range: { start: 0, end: 4 } })),
  );
  return directoryOf(stored, { format: "safetensors", name: "model.safetensors.index.json", metadata: new Map() });
}

function identity(sources: readonly ByteSource[], changes = {}, config = CONFIG) {
  return weightsIdentity({ config, directory: directory(...sources), changes }).weights;
}

describe("weights", () => {
  const shards = [source("a.safetensors"), source("b.safetensors")];

  test("are the same in two loads of the same files, whatever order the shards come in", () => {
    expect(identity([source("a.safetensors"), source("b.safetensors")])).toBe(identity(shards));
    expect(identity([...shards].reverse())).toBe(identity(shards));
    expect(identity(shards)).toMatch(/^[0-9a-f]{32}$/);
  });

  test.each<[string, string]>([
    ["the version of the last shard", identity([source("a.safetensors"), source("b.safetensors", { version: '"2"' })])],
    ["the size of the last shard", identity([source("a.safetensors"), source("b.safetensors", { size: 99 })])],
    ["the name of a file", identity([source("other/a.safetensors"), source("b.safetensors")])],
    ["one shard more", identity([...shards, source("c.safetensors")])],
    ["q8 made of them", identity(shards, { quantise: "q8" })],
    ["q4 made of them", identity(shards, { quantise: "q4" })],
    ["another shape", identity(shards, {}, { ...CONFIG, layerCount: 3 })],
    ["another rotary base", identity(shards, {}, { ...CONFIG, rope: { theta: 500_000, dimensions: 16 } })],
  ])("differ by %s", (_, other) => {
    expect(other).not.toBe(identity(shards));
  });

  test("of two versions do not become alike where a name ends as a version begins", () => {
    expect(identity([source("a 1", { version: "2" })])).not.toBe(identity([source("a", { version: "1 2" })]));
  });

  test("that no version tells apart are never the same, and every such file is named", () => {
    const { version: _, ...unversioned } = source("b.safetensors");
    const facts = { config: CONFIG, directory: directory(source("a.safetensors"), unversioned), changes: {} };
    const [one, two] = [weightsIdentity(facts), weightsIdentity(facts)];
    expect(one.weights).not.toBe(two.weights);
    expect(one.unknownSources).toEqual(["b.safetensors"]);
  });

  test("whose hashes are told are the same from two servers, and differ where a byte does", () => {
    const checked = (name: string, byte: number) => {
      const { version: _, ...unversioned } = source(name);
      return verifySource(unversioned, hashesOf(new Uint8Array(100).fill(byte), 4096));
    };
    expect(identity([checked("https://one.test/model", 0)])).toBe(identity([checked("https://two.test/model", 0)]));
    expect(identity([checked("https://one.test/model", 1)])).not.toBe(identity([checked("https://one.test/model", 0)]));
  });

  test("of a file that was dropped are known by its date", () => {
    const dropped = (lastModified: number) => openBlob(new File(["weights"], "model.gguf", { lastModified }));
    expect(identity([dropped(1)])).toBe(identity([dropped(1)]));
    expect(identity([dropped(1)])).not.toBe(identity([dropped(2)]));
  });
});

const TOKENS = [..."abcdefgh", "ab", "cd", "ef"];

function tokenizerJson(tokens: readonly string[] = TOKENS, changes: object = {}, modelChanges: object = {}) {
  const vocab = Object.fromEntries(tokens.map((token, id) => [token, id]));
  const model = {
    type: "BPE",
    vocab,
    merges: [
      ["a", "b"],
      ["c", "d"],
    ],
    ...modelChanges,
  };
  return {
    added_tokens: [],
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, use_regex: true },
    decoder: { type: "ByteLevel" },
    model,
    ...changes,
  };
}

async function identityOfJson(json: object): Promise<string> {
  const tokenizer = await Tokenizer.fromJson({ tokenizer: json });
  return jsonTokenizerIdentity(json, tokenizer);
}

describe("a tokenizer.json", () => {
  test("is the same whatever the order of its keys, and of its vocabulary's", async () => {
    const { model, ...rest } = tokenizerJson();
    const turned = {
      model: Object.fromEntries(Object.entries({ ...model, vocab: Object.fromEntries(Object.entries(model.vocab).reverse()) }).reverse()),
      ...Object.fromEntries(Object.entries(rest).reverse()),
    };
    expect(Object.keys(turned)).not.toEqual(Object.keys(tokenizerJson()));
    expect(await identityOfJson(turned)).toBe(await identityOfJson(tokenizerJson()));
    expect(await identityOfJson(tokenizerJson(TOKENS, {}, { merges: ["a b", "c d"] }))).toBe(await identityOfJson(tokenizerJson()));
  });

  test.each<[string, object]>([
    ["two ids that changed places", tokenizerJson(["b", "a", ...TOKENS.slice(2)])],
    ["a token more", tokenizerJson([...TOKENS, "gh"])],
    [
      "merges in another order",
      tokenizerJson(
        TOKENS,
        {},
        {
          merges: [
            ["c", "d"],
            ["a", "b"],
          ],
        },
      ),
    ],
    ["an added token", tokenizerJson(TOKENS, { added_tokens: [{ id: 11, content: "<end>", special: true }] })],
    ["a normaliser", tokenizerJson(TOKENS, { normalizer: { type: "NFC" } })],
    ["how words are split", tokenizerJson(TOKENS, { pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, use_regex: false } })],
    ["an option of its model", tokenizerJson(TOKENS, {}, { ignore_merges: true })],
  ])("differs by %s", async (_, other) => {
    expect(await identityOfJson(other)).not.toBe(await identityOfJson(tokenizerJson()));
  });

  test("is named whatever is nested in a part that nobody reads", async () => {
    let deep: unknown = "end";
    for (let depth = 0; depth < 100_000; depth++) deep = { deep };
    const tokens = { vocabSize: 1, tokenSpelling: () => "a" };
    expect(await jsonTokenizerIdentity({ model: { unread: deep } }, tokens)).not.toBe(await jsonTokenizerIdentity({ model: {} }, tokens));
  });
});

describe("a GGUF's vocabulary", () => {
  const metadata = (changes: Record<string, MetadataValue> = {}) =>
    new Map<string, MetadataValue>(
      Object.entries({
        "general.name": "a model",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.token_type": new Float64Array(TOKENS.length).fill(1),
        "tokenizer.chat_template": "{{ messages }}",
        ...changes,
      }),
    );

  test("is the same whatever the order of the keys, the model's name and the template", async () => {
    const turned = new Map([...metadata({ "general.name": "another", "tokenizer.chat_template": "" })].reverse());
    expect(await ggufTokenizerIdentity(turned)).toBe(await ggufTokenizerIdentity(metadata()));
  });

  test.each<[string, Record<string, MetadataValue>]>([
    ["two ids that changed places", { "tokenizer.ggml.tokens": ["b", "a", ...TOKENS.slice(2)] }],
    ["a token's type", { "tokenizer.ggml.token_type": new Float64Array(TOKENS.length).fill(3) }],
    ["how words are split", { "tokenizer.ggml.pre": "qwen2" }],
    ["texts that are cut elsewhere", { "tokenizer.ggml.tokens": ["ab", "", ...TOKENS.slice(2)] }],
  ])("differs by %s", async (_, changes) => {
    expect(await ggufTokenizerIdentity(metadata(changes))).not.toBe(await ggufTokenizerIdentity(metadata()));
  });
});
