// Ids and texts compared with Hugging Face's tokenizers and Google's SentencePiece, on strings and vocabularies that expose wrong splits.
import { describe, expect, test } from "vitest";
import { Tokenizer } from "../../../src/tokens/tokenizer";
import { bytePair, bytePairJson, bytePairMetadata, sentencePiece, sentencePieceMetadata } from "./golden-tokens";

const PLAIN = { addSpecialTokens: false };
const ALL = { skipSpecialTokens: false };

describe("byte pairs", () => {
  for (const golden of bytePair.cases) {
    const json = bytePairJson({
      normalizer: golden.normalizer,
      pre_tokenizer: golden.pre_tokenizer,
      model: { ...bytePair.tokenizer.model, ignore_merges: golden.ignore_merges },
    });

    test(`tokenizer.json with the words of ${golden.name ?? "isolated punctuation"} gives tokenizers' ids and texts`, async () => {
      expectGolden(await Tokenizer.fromJson({ tokenizer: json }), golden);
    });

    if (golden.name === null) continue;
    test(`a GGUF with pre "${golden.name}" gives tokenizers' ids and texts`, async () => {
      expectGolden(await Tokenizer.fromGguf(bytePairMetadata({ "tokenizer.ggml.pre": golden.name })), golden);
    });
  }

  test("the golden cases tell every pair of pre-tokenizers apart", () => {
    const distinct = new Set(bytePair.cases.map(({ ids }) => JSON.stringify(ids)));
    expect(distinct.size).toBe(bytePair.cases.length);
  });

  function expectGolden(tokenizer: Tokenizer, { ids, decoded }: (typeof bytePair.cases)[number]): void {
    bytePair.strings.forEach((text, index) => {
      expect(tokenizer.encode(text, PLAIN), JSON.stringify(text)).toEqual(ids[index]);
      expect(tokenizer.decode(ids[index] ?? [], ALL), JSON.stringify(text)).toBe(decoded[index]);
    });
  }
});

describe("SentencePiece", () => {
  test("a GGUF of kind llama gives SentencePiece's ids and texts", async () => {
    const tokenizer = await Tokenizer.fromGguf(sentencePieceMetadata());
    sentencePiece.strings.forEach((text, index) => {
      expect(tokenizer.encode(text, PLAIN), JSON.stringify(text)).toEqual(sentencePiece.ids[index]);
      expect(tokenizer.decode(sentencePiece.ids[index] ?? [])).toBe(sentencePiece.decoded[index]);
    });
  });

  test("without add_space_prefix no space is added before a text, and none is dropped", async () => {
    const tokenizer = await Tokenizer.fromGguf(sentencePieceMetadata({ "tokenizer.ggml.add_space_prefix": false }));
    for (const text of ["the ship", " the ship"]) expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    expect(tokenizer.encode("the", PLAIN)).not.toEqual((await Tokenizer.fromGguf(sentencePieceMetadata())).encode("the", PLAIN));
  });

  test("text that continues other text gets no added space, and loses none of its own", async () => {
    const cases = sentencePiece.cases.map(({ tokenizer }) => fromCase(tokenizer));
    const models = await Promise.all([Tokenizer.fromGguf(sentencePieceMetadata()), ...cases]);
    for (const tokenizer of models) {
      for (const text of ["the ship", " the ship", "\n\nthe", "", "日本"]) {
        const ids = tokenizer.encode(text, { addSpecialTokens: false, continuesText: true });
        expect(tokenizer.decode(ids, { continuesText: true }), JSON.stringify(text)).toBe(text);
      }
    }
  });

  for (const golden of sentencePiece.cases) {
    test(`tokenizer.json whose space in front is "${golden.name}" gives tokenizers' ids and texts, special tokens shown or not`, async () => {
      const tokenizer = await fromCase(golden.tokenizer);
      golden.strings.forEach((text, index) => {
        const ids = golden.ids[index] ?? [];
        expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(ids);
        expect({ all: tokenizer.decode(ids, ALL), plain: tokenizer.decode(ids) }).toEqual(golden.decoded[index]);
      });
    });
  }

  function fromCase(tokenizer: (typeof sentencePiece.cases)[number]["tokenizer"]): Promise<Tokenizer> {
    const model = tokenizer.model ?? sentencePiece.cases[0]?.tokenizer.model;
    return Tokenizer.fromJson({ tokenizer: { ...tokenizer, model } });
  }
});

test("a long vocabulary is built in slices; other tasks run in between, and an abort ends it", async () => {
  const tokens = Array.from({ length: 150_000 }, (_, id) => `t${id}`);
  const merges = tokens.slice(1).map((token) => `t ${token.slice(1)}`);
  const long = bytePairMetadata({
    "tokenizer.ggml.tokens": tokens,
    "tokenizer.ggml.token_type": new Float64Array(tokens.length).fill(1),
    "tokenizer.ggml.merges": merges,
  });
  let runs = 0;
  const timer = setInterval(() => runs++);
  await Tokenizer.fromGguf(long).finally(() => clearInterval(timer));
  expect(runs).toBeGreaterThan(1);
  const abort = new AbortController();
  const reason = new Error("enough");
  setTimeout(() => abort.abort(reason), 5);
  await expect(Tokenizer.fromGguf(long, { signal: abort.signal })).rejects.toBe(reason);
});

test("merges given as pairs may contain spaces, never collide with similar ones, and rank by their last position", () => {
  const vocab = Object.fromEntries([..." ab", "a ", " b", "a b", "ab"].map((token, id) => [token, id]));
  const tokenize = async (merges: unknown) => {
    const model = { type: "BPE", vocab, merges };
    const json = { model, decoder: { type: "ByteLevel" } };
    return (await Tokenizer.fromJson({ tokenizer: json })).encode("a b");
  };
  return Promise.all([
    expect(tokenize([["a", " "]])).resolves.toEqual([vocab["a "], vocab.b]),
    expect(
      tokenize([
        ["a", " "],
        ["a ", "b"],
      ]),
    ).resolves.toEqual([vocab["a b"]]),
    expect(
      tokenize([
        ["a", " "],
        ["a", " b"],
      ]),
    ).resolves.toEqual([vocab["a "], vocab.b]),
    expect(
      tokenize([
        ["a", " "],
        [" ", "b"],
        ["a", " "],
      ]),
    ).resolves.toEqual([vocab.a, vocab[" b"]]),
  ]);
});
