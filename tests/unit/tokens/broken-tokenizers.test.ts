// Tokenizer files that are missing, broken, or of a kind for which we cannot reproduce the ids: each error says what is wrong.
import { describe, expect, test } from "vitest";
import { PRE_TOKENIZERS } from "../../../src/tokens/gguf-pre-tokenizers";
import { Tokenizer } from "../../../src/tokens/tokenizer";
import type { TokenizerEvent } from "../../../src/tokens/tokenizer-event";
import { expectLlmError } from "../../support/expect-llm-error";
import { bytePair, bytePairJson, bytePairMetadata, sentencePieceMetadata } from "./golden-tokens";

const model = bytePair.tokenizer.model;
const fromJson = (tokenizer: unknown, rest: object = {}) => Tokenizer.fromJson({ tokenizer, ...rest });
const fromGguf = (metadata: ReadonlyMap<string, unknown>) => Tokenizer.fromGguf(metadata);
const withModel = (changes: object) => bytePairJson({ model: { ...model, ...changes } });

describe("tokenizer.json", () => {
  test.each([
    ["missing", undefined, "missing"],
    ["a list", [], "an array"],
    ["without a model", bytePairJson({ model: undefined }), '"model" is missing'],
    ["without a vocabulary", withModel({ vocab: undefined }), '"model.vocab" is missing'],
    ["with an empty vocabulary", withModel({ vocab: {} }), "empty"],
    ["with a negative id", withModel({ vocab: { a: -1 } }), '["a"] is -1'],
    ["with an id past all vocabularies", withModel({ vocab: { a: 1e9 } }), "1000000000"],
    ["with an id that is no number", withModel({ vocab: { a: "1" } }), '"1"'],
    ["without merges", withModel({ type: "BPE", merges: undefined }), '"model.merges" is missing'],
    ["with a merge of one", withModel({ merges: [model.merges[0]?.join(" "), "ab"] }), "merges[1]"],
    ["with a merge whose result is no token", withModel({ merges: [["a", "~"]] }), '"a~" is no token'],
    ["with a merge of a part that is no token", withModel({ vocab: { a: 0, ab: 1 }, merges: ["a b"] }), '"b" is no token'],
    ["with a split without pattern", bytePairJson({ pre_tokenizer: { type: "Split", behavior: "Isolated", invert: false } }), "pattern"],
    [
      "with a split by a number",
      bytePairJson({ pre_tokenizer: { type: "Split", pattern: { Regex: 1 }, behavior: "Isolated" } }),
      "pattern",
    ],
    ["with nothing to prepend", bytePairJson({ normalizer: { type: "Prepend" } }), "Prepend"],
    ["with a replacement of nothing", bytePairJson({ normalizer: { type: "Replace", content: "a" } }), "pattern"],
    ["with a replacement by nothing", bytePairJson({ normalizer: { type: "Replace", pattern: { String: "a" } } }), "content"],
    [
      "with an expression that is too large",
      bytePairJson({ pre_tokenizer: { type: "Split", pattern: { Regex: "a".repeat(5_000_000) }, behavior: "Isolated" } }),
      "",
    ],
    [
      "with an expression that is none",
      bytePairJson({ pre_tokenizer: { type: "Split", pattern: { Regex: "(" }, behavior: "Isolated" } }),
      "",
    ],
    ["with a merge of three", withModel({ merges: [["a", "b", "c"]] }), "merges[0]"],
    ["with an unknown token that is none", withModel({ unk_token: "<none>" }), "<none>"],
    ["with an added token without text", bytePairJson({ added_tokens: [{ id: 1 }] }), "added_tokens[0].content"],
    ["with an added token without id", bytePairJson({ added_tokens: [{ content: "<x>" }] }), "added_tokens[0].id"],
    ["with a stage without type", bytePairJson({ pre_tokenizer: {} }), '"pre_tokenizer"'],
    [
      "with a template of unknown tokens",
      bytePairJson({ post_processor: { type: "TemplateProcessing", single: [{ SpecialToken: { id: "<x>" } }], special_tokens: {} } }),
      "<x>",
    ],
  ])("%s is refused as broken", (_, json, words) => expectLlmError(fromJson(json), "bad-tokenizer", "tokenizer.json", words));

  test.each([
    ["a Unigram model", withModel({ type: "Unigram" }), "Unigram"],
    ["dropout", withModel({ dropout: 0.1 }), "dropout"],
    ["suffixes", withModel({ end_of_word_suffix: "</w>" }), "</w>"],
    [
      "a normalizer of another kind",
      bytePairJson({ normalizer: { type: "Sequence", normalizers: [{ type: "BertNormalizer" }] } }),
      "BertNormalizer",
    ],
    ["a pre-tokenizer of another kind", bytePairJson({ pre_tokenizer: { type: "UnicodeScripts" } }), "UnicodeScripts"],
    [
      "a split that merges",
      bytePairJson({ pre_tokenizer: { type: "Split", pattern: { String: " " }, behavior: "MergedWithNext" } }),
      "MergedWithNext",
    ],
    ["a space in front of words", bytePairJson({ pre_tokenizer: { type: "ByteLevel", add_prefix_space: true } }), "add_prefix_space"],
    ["a post-processor of another kind", bytePairJson({ post_processor: { type: "BertProcessing" } }), "BertProcessing"],
    ["no decoder", bytePairJson({ decoder: null }), "decoder"],
    ["a decoder of another kind", bytePairJson({ decoder: { type: "WordPiece" } }), "WordPiece"],
    ["a decoder that strips each token", bytePairJson({ decoder: stripsEach() }), "Strip"],
    ["tokens that stand between spaces only", bytePairJson({ added_tokens: [{ id: 1, content: "x", single_word: true }] }), "single_word"],
  ])("with %s is refused as unsupported", (_, json, words) => expectLlmError(fromJson(json), "unsupported", words));

  test.each([
    ["config", { config: [] }, "tokenizer_config.json"],
    ["a special token", { config: { bos_token: 3 } }, "bos_token"],
    ["the chat template", { config: { chat_template: 3 } }, "chat_template"],
    ["the stop tokens", { generationConfig: { eos_token_id: "2" } }, "eos_token_id"],
  ])("a broken configuration names %s", (_, files, words) => expectLlmError(fromJson(bytePairJson(), files), "bad-tokenizer", words));
});

describe("GGUF", () => {
  test.each([
    ["without a tokenizer", new Map<string, unknown>(), "tokenizer.ggml.model"],
    ["without tokens", bytePairMetadata({ "tokenizer.ggml.tokens": undefined }), "tokenizer.ggml.tokens"],
    ["with a token that is none", bytePairMetadata({ "tokenizer.ggml.tokens": ["a", 1] }), "tokens[1]"],
    [
      "with one token twice",
      bytePairMetadata({ "tokenizer.ggml.tokens": ["a", "b", "a"], "tokenizer.ggml.token_type": [1, 1, 1] }),
      '0 and 2 are both "a"',
    ],
    ["with too few types", bytePairMetadata({ "tokenizer.ggml.token_type": [1] }), "token_type has 1"],
    ["with types that are none", bytePairMetadata({ "tokenizer.ggml.token_type": "1" }), "token_type"],
    ["without merges", bytePairMetadata({ "tokenizer.ggml.merges": undefined }), "merges is missing"],
    ["without scores", sentencePieceMetadata({ "tokenizer.ggml.scores": undefined }), "scores is missing"],
    [
      "with a first token past the end, where texts begin with one",
      bytePairMetadata({ "tokenizer.ggml.pre": "llama-bpe", "tokenizer.ggml.bos_token_id": 1_000_000 }),
      "bos_token_id is 1000000",
    ],
    ["with a flag that is a number", bytePairMetadata({ "tokenizer.ggml.add_bos_token": 1 }), "add_bos_token is a number"],
  ])("%s is refused as broken", (_, metadata, words) => expectLlmError(fromGguf(metadata), "bad-tokenizer", "GGUF", words));

  test("an event and the error name an unknown pre-tokenizer", async () => {
    const events: TokenizerEvent[] = [];
    const load = () => Tokenizer.fromGguf(bytePairMetadata({ "tokenizer.ggml.pre": "tekken" }), { onEvent: (event) => events.push(event) });
    await expectLlmError(load(), "unsupported", "tokenizer.ggml.pre", '"tekken"', "qwen2");
    const expected = [...PRE_TOKENIZERS.keys()];
    expect(events).toEqual([{ type: "tokenizer-unsupported", key: "tokenizer.ggml.pre", found: "tekken", expected }]);
  });

  test("an event and the error name an unknown kind", async () => {
    const events: TokenizerEvent[] = [];
    const load = () => Tokenizer.fromGguf(bytePairMetadata({ "tokenizer.ggml.model": "t5" }), { onEvent: (event) => events.push(event) });
    await expectLlmError(load(), "unsupported", '"t5"');
    expect(events).toEqual([{ type: "tokenizer-unsupported", key: "tokenizer.ggml.model", found: "t5", expected: ["gpt2", "llama"] }]);
  });

  test("a SentencePiece vocabulary that drops spaces is refused", () =>
    expectLlmError(
      fromGguf(sentencePieceMetadata({ "tokenizer.ggml.remove_extra_whitespaces": true })),
      "unsupported",
      "remove_extra_whitespaces",
    ));
});

function stripsEach() {
  const mark = { type: "Replace", pattern: { String: "▁" }, content: " " };
  return { type: "Sequence", decoders: [mark, { type: "Strip", content: " ", start: 1, stop: 0 }, { type: "Fuse" }] };
}
