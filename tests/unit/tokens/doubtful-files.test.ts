// What a model can do without: the file loads, an event tells, and the rest is read as ever.
import { describe, expect, test } from "vitest";
import { PRE_TOKENIZERS } from "../../../src/tokens/gguf-pre-tokenizers";
import { Tokenizer } from "../../../src/tokens/tokenizer";
import type { TokenizerEvent } from "../../../src/tokens/tokenizer-event";
import { expectLlmError } from "../../support/expect-llm-error";
import { bytePairJson, bytePairMetadata, sentencePieceMetadata } from "./golden-tokens";

const TEXT = "Hello, world 1234\n";

async function read(metadata: ReadonlyMap<string, unknown>) {
  const events: TokenizerEvent[] = [];
  const tokenizer = await Tokenizer.fromGguf(metadata, { onEvent: (event) => events.push(event) });
  return { tokenizer, doubts: events.map((event) => (event.type === "tokenizer-doubt" ? event.key : event.type)) };
}

describe("a GGUF loads, and an event names", () => {
  test.each<[string, Record<string, unknown>]>([
    ["tokenizer.ggml.eos_token_id", { "tokenizer.ggml.eos_token_id": 50_279 }],
    ["tokenizer.ggml.eos_token_id", { "tokenizer.ggml.eos_token_id": -1 }],
    ["tokenizer.ggml.eot_token_id", { "tokenizer.ggml.eot_token_id": "2" }],
    ["tokenizer.ggml.bos_token_id", { "tokenizer.ggml.bos_token_id": 1_000_000 }],
    ["tokenizer.ggml.padding_token_id", { "tokenizer.ggml.padding_token_id": 4_294_967_295 }],
    ["tokenizer.ggml.unknown_token_id", { "tokenizer.ggml.unknown_token_id": 1_000_000 }],
    ["tokenizer.ggml.token_type", { "tokenizer.ggml.token_type": undefined }],
    ["tokenizer.ggml.pre", { "tokenizer.ggml.pre": undefined, "general.architecture": "llama" }],
    ["tokenizer.chat_template", { "tokenizer.chat_template": "{% for m in messages %}{{ m.content }}{% endfoor %}" }],
    ["tokenizer.chat_template", { "tokenizer.chat_template": Uint8Array.of(0xe9) }],
    ["tokenizer.chat_template", { "tokenizer.chat_template": "{{ 'a" }],
  ])("%s, given %o", async (key, changes) => {
    const { tokenizer, doubts } = await read(bytePairMetadata(changes));
    expect(doubts).toEqual([key]);
    expect(tokenizer.decode(tokenizer.encode(TEXT))).toBe(TEXT);
    expect(tokenizer.stopIds.size).toBeGreaterThan(0);
  });

  test("nothing where empty tokens stand for none", async () => {
    const tokens = [...(bytePairMetadata().get("tokenizer.ggml.tokens") as string[])];
    for (const id of [tokens.length - 1, tokens.length - 3]) tokens[id] = "";
    const { tokenizer, doubts } = await read(bytePairMetadata({ "tokenizer.ggml.tokens": tokens }));
    expect(doubts).toEqual([]);
    expect([tokenizer.vocabSize <= tokens.length, tokenizer.decode(tokenizer.encode(TEXT))]).toEqual([true, TEXT]);
  });

  test("token types that a SentencePiece vocabulary lacks: bytes, controls and the unknown token are known by their spelling", async () => {
    const { tokenizer, doubts } = await read(sentencePieceMetadata({ "tokenizer.ggml.token_type": undefined }));
    const whole = await Tokenizer.fromGguf(sentencePieceMetadata());
    expect(doubts).toEqual(["tokenizer.ggml.token_type"]);
    for (const text of [TEXT, "naïve 🙂 日本", "</s>"]) expect(tokenizer.encode(text)).toEqual(whole.encode(text));
    expect([...tokenizer.specialIds].sort()).toEqual([...whole.specialIds].sort());
  });
});

test("a first token that no key names is known by its spelling where texts begin with one", async () => {
  const { tokenizer, doubts } = await read(sentencePieceMetadata({ "tokenizer.ggml.bos_token_id": 50_279 }));
  expect([doubts, tokenizer.encode("a")[0]]).toEqual([["tokenizer.ggml.bos_token_id"], 1]);
});

test("a file that names no split reads as its family's files do, otherwise as llama.cpp reads it", async () => {
  const idsOf = async (changes: Record<string, unknown>) => (await Tokenizer.fromGguf(bytePairMetadata(changes))).encode("I'LL 12345");
  const unnamed = (architecture: string) => idsOf({ "tokenizer.ggml.pre": undefined, "general.architecture": architecture });
  expect(await unnamed("qwen2")).toEqual(await idsOf({ "tokenizer.ggml.pre": "qwen2" }));
  expect(await unnamed("falcon")).toEqual(await idsOf({ "tokenizer.ggml.pre": "falcon" }));
  expect(await unnamed("llama")).toEqual(await idsOf({ "tokenizer.ggml.pre": "default" }));
});

test.each([
  ["llama3", "llama-bpe"],
  ["llama-v3", "llama-bpe"],
  ["falcon3", "llama-bpe"],
  ["pixtral", "llama-bpe"],
  ["lfm2", "llama-bpe"],
  ["smaug-bpe", "dbrx"],
  ["deepseek-r1-qwen", "qwen2"],
  ["megrez", "qwen2"],
  ["starcoder", "smollm"],
  ["phi-2", "gpt-2"],
  ["mpt", "olmo"],
])("the split %s is %s", async (other, name) => {
  expect(PRE_TOKENIZERS.has(name)).toBe(true);
  const text = "I'LL see 12345 e\u0301tats, \n\n ok";
  const [first, second] = await Promise.all(
    [other, name].map((pre) => Tokenizer.fromGguf(bytePairMetadata({ "tokenizer.ggml.pre": pre }))),
  );
  expect(first?.encode(text)).toEqual(second?.encode(text));
});

describe("a template that cannot be read", () => {
  const config = { chat_template: "{% for m in messages %}{{ m.content }}{% endfoor %}" };

  test("stops chats with an error that names it, not the model", async () => {
    const tokenizer = await Tokenizer.fromJson({ tokenizer: bytePairJson(), config });
    expect([tokenizer.chatTemplate, tokenizer.chatTemplateError?.code, tokenizer.decode(tokenizer.encode(TEXT))]).toEqual([
      null,
      "bad-tokenizer",
      TEXT,
    ]);
    const render = async () => tokenizer.renderChat([{ role: "user", content: "Hi" }]);
    await expectLlmError(render(), "bad-tokenizer", "chat_template of tokenizer_config.json", "can be completed");
  });

  test("gives way to the one that the caller has", async () => {
    const tokenizer = await Tokenizer.fromJson({ tokenizer: bytePairJson(), config }, { chatTemplate: "{{ messages[0].content }}!" });
    expect(tokenizer.renderChat([{ role: "user", content: "Hi" }])).toBe("Hi!");
    await expectLlmError(
      Tokenizer.fromJson({ tokenizer: bytePairJson() }, { chatTemplate: "{%" }),
      "bad-tokenizer",
      "the option chatTemplate",
    );
  });
});
