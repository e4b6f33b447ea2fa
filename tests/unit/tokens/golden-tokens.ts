// The golden vocabularies of tests/golden/tokens, and GGUF metadata that hold the same ones.
import type { ChatMessage } from "../../../src/tokens/chat-template";
import { readTestJson } from "../../support/test-files";

interface TokenizerFile {
  readonly added_tokens: readonly { readonly id: number; readonly content: string; readonly special: boolean }[];
  readonly model: { readonly vocab: Readonly<Record<string, number>>; readonly merges: readonly (readonly [string, string])[] };
}

interface BytePairGolden {
  readonly tokenizer: TokenizerFile;
  readonly strings: readonly string[];
  readonly cases: readonly {
    /** llama.cpp's name of the pre-tokenizer; null if it has none. */
    readonly name: string | null;
    readonly normalizer: unknown;
    readonly pre_tokenizer: unknown;
    readonly ignore_merges: boolean;
    readonly ids: readonly (readonly number[])[];
    readonly decoded: readonly string[];
  }[];
}

interface SentencePieceGolden {
  readonly tokens: readonly string[];
  readonly scores: readonly number[];
  readonly types: readonly number[];
  readonly strings: readonly string[];
  readonly ids: readonly (readonly number[])[];
  readonly decoded: readonly string[];
  readonly cases: readonly {
    readonly name: string;
    readonly tokenizer: Readonly<Record<string, unknown>>;
    readonly strings: readonly string[];
    readonly ids: readonly (readonly number[])[];
    readonly decoded: readonly { readonly all: string; readonly plain: string }[];
  }[];
}

interface ChatTemplateGolden {
  readonly templates: Readonly<Record<string, string>>;
  readonly cases: readonly {
    readonly template: string;
    readonly messages: readonly ChatMessage[];
    readonly addGenerationPrompt: boolean;
    /** Null if the template refuses the messages. */
    readonly text: string | null;
  }[];
}

export const bytePair = await readTestJson<BytePairGolden>("tests/golden/tokens/byte-pair.json");
export const sentencePiece = await readTestJson<SentencePieceGolden>("tests/golden/tokens/sentencepiece.json");
export const chatTemplates = await readTestJson<ChatTemplateGolden>("tests/golden/tokens/chat-templates.json");

/** The golden byte-pair tokenizer.json, with `changes` to it. */
export function bytePairJson(changes: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  return { ...bytePair.tokenizer, ...changes };
}

/** The golden byte-pair vocabulary as GGUF metadata. A change to undefined removes the key. */
export function bytePairMetadata(changes: Readonly<Record<string, unknown>> = {}): ReadonlyMap<string, unknown> {
  const { added_tokens: added, model } = bytePair.tokenizer;
  const tokens: string[] = [];
  const types: number[] = [];
  const add = (token: string, id: number, type: number) => {
    tokens[id] = token;
    types[id] = type;
  };
  for (const [token, id] of Object.entries(model.vocab)) add(token, id, 1);
  for (const { content, id, special } of added) add(content, id, special ? 3 : 4);
  return metadata({
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": tokens,
    "tokenizer.ggml.token_type": Float64Array.from(types),
    "tokenizer.ggml.merges": model.merges.map((pair) => pair.join(" ")),
    ...changes,
  });
}

/** The golden SentencePiece vocabulary as GGUF metadata. A change to undefined removes the key. */
export function sentencePieceMetadata(changes: Readonly<Record<string, unknown>> = {}): ReadonlyMap<string, unknown> {
  return metadata({
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": sentencePiece.tokens,
    "tokenizer.ggml.token_type": sentencePiece.types,
    "tokenizer.ggml.scores": Float64Array.from(sentencePiece.scores),
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    ...changes,
  });
}

function metadata(entries: Readonly<Record<string, unknown>>): ReadonlyMap<string, unknown> {
  return new Map(Object.entries(entries).filter(([, value]) => value !== undefined));
}
