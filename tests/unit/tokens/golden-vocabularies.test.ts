// Ids and texts against Hugging Face's tokenizers and Google's SentencePiece, on strings and vocabularies in which a wrong split shows.
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

    test(`tokenizer.json with the words of ${golden.name ?? "isolated punctuation"} gives tokenizers' ids and texts`, () => {
      expectGolden(Tokenizer.fromJson({ tokenizer: json }), golden);
    });

    if (golden.name === null) continue;
    test(`a GGUF with pre "${golden.name}" gives tokenizers' ids and texts`, () => {
      expectGolden(Tokenizer.fromGguf(bytePairMetadata({ "tokenizer.ggml.pre": golden.name })), golden);
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
  test("a GGUF of kind llama gives SentencePiece's ids and texts", () => {
    const tokenizer = Tokenizer.fromGguf(sentencePieceMetadata());
    sentencePiece.strings.forEach((text, index) => {
      expect(tokenizer.encode(text, PLAIN), JSON.stringify(text)).toEqual(sentencePiece.ids[index]);
      expect(tokenizer.decode(sentencePiece.ids[index] ?? [])).toBe(sentencePiece.decoded[index]);
    });
  });

  test("without add_space_prefix no space comes in front of a text, and none is dropped", () => {
    const tokenizer = Tokenizer.fromGguf(sentencePieceMetadata({ "tokenizer.ggml.add_space_prefix": false }));
    for (const text of ["the ship", " the ship"]) expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    expect(tokenizer.encode("the", PLAIN)).not.toEqual(Tokenizer.fromGguf(sentencePieceMetadata()).encode("the", PLAIN));
  });

  test("text that goes on after other text gets no space in front, and loses none of its own", () => {
    const models = [Tokenizer.fromGguf(sentencePieceMetadata()), ...sentencePiece.cases.map(({ tokenizer }) => fromCase(tokenizer))];
    for (const tokenizer of models) {
      for (const text of ["the ship", " the ship", "\n\nthe", "", "日本"]) {
        const ids = tokenizer.encode(text, { addSpecialTokens: false, continuesText: true });
        expect(tokenizer.decode(ids, { continuesText: true }), JSON.stringify(text)).toBe(text);
      }
    }
  });

  for (const golden of sentencePiece.cases) {
    test(`tokenizer.json whose space in front is "${golden.name}" gives tokenizers' ids and texts, special tokens shown or not`, () => {
      const tokenizer = fromCase(golden.tokenizer);
      golden.strings.forEach((text, index) => {
        const ids = golden.ids[index] ?? [];
        expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(ids);
        expect({ all: tokenizer.decode(ids, ALL), plain: tokenizer.decode(ids) }).toEqual(golden.decoded[index]);
      });
    });
  }

  function fromCase(tokenizer: (typeof sentencePiece.cases)[number]["tokenizer"]): Tokenizer {
    const model = tokenizer.model ?? sentencePiece.cases[0]?.tokenizer.model;
    return Tokenizer.fromJson({ tokenizer: { ...tokenizer, model } });
  }
});
