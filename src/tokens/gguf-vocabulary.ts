// Turns the vocabulary in a GGUF's metadata into the tokenizer.json and tokenizer_config.json that it was made from.
import { LlmError } from "../errors";
import { quoted } from "../quoted";
import { TimeSlice } from "../time-slice";
import type { TokenizerFiles } from "./tokenizer-config";
import { GPT2_WORDS, isolate, type Step } from "./tokenizer-json";

export type GgufMetadata = ReadonlyMap<string, unknown>;

export interface VocabularyOptions {
  readonly onEvent?: ((event: TokenizerEvent) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A vocabulary that we cannot read as it was trained. An error with the same reason follows. */
export interface TokenizerEvent {
  readonly type: "tokenizer-unsupported";
  readonly key: string;
  readonly found: string;
  readonly expected: readonly string[];
}

// The values of tokenizer.ggml.token_type; 6 marks SentencePiece's single bytes.
const NORMAL = 1;
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;
const UNUSED = 5;

const ROUNDS_BETWEEN_LOOKS = 512; // reading the clock costs as much as one round

// Word patterns by llama.cpp's names. Contractions ignore the case of ASCII letters only.
const CONTRACTIONS = "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]";
const MODERN_WORDS = (digits: string) =>
  `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

interface PreTokenizer {
  readonly words: readonly string[];
  readonly normalizer?: Step;
  /** Words that are tokens stay whole, even if no merges produce them. */
  readonly ignoreMerges?: true;
  readonly addsBos?: true;
}

const PRE_TOKENIZERS: ReadonlyMap<string, PreTokenizer> = new Map([
  ["default", { words: ["[\\p{P}$+<=>^~|]+", GPT2_WORDS, "\\p{N}+", "[0-9][0-9][0-9]"] }],
  ["gpt-2", { words: [GPT2_WORDS] }],
  ["smollm", { words: ["\\p{N}", GPT2_WORDS] }],
  ["qwen2", { words: [MODERN_WORDS("\\p{N}")], normalizer: { type: "NFC" } }], // llama.cpp omits the normalizer
  ["llama-bpe", { words: [MODERN_WORDS("\\p{N}{1,3}")], ignoreMerges: true, addsBos: true }],
  ["falcon", { words: ["[\\p{P}$+<=>^~|`]+", GPT2_WORDS, "[0-9][0-9][0-9]"] }],
]);

/**
 * The files, with a `Map` as "model.vocab". The page runs between slices of the work.
 *
 * @throws LlmError "bad-tokenizer" if the metadata hold no vocabulary or a broken one, "unsupported" (after an event) if they name an unknown
 * tokenizer or pre-tokenizer; the signal's reason when aborted.
 */
export async function readGgufVocabulary(metadata: GgufMetadata, { onEvent, signal }: VocabularyOptions = {}): Promise<TokenizerFiles> {
  const slice = new TimeSlice(signal);
  const kind = required(metadata, "tokenizer.ggml.model", "string");
  const refuse = (key: string, found: string, expected: readonly string[]) => {
    onEvent?.({ type: "tokenizer-unsupported", key, found, expected });
    const reason = "Read otherwise, text would get other ids than the model was trained on.";
    return new LlmError("unsupported", `GGUF: ${key} is ${quoted(found)}, expected one of ${expected.join(", ")}. ${reason}`);
  };
  if (kind === "llama") return sentencePieceFiles(metadata, await readPieces(metadata, slice), slice);
  if (kind !== "gpt2") throw refuse("tokenizer.ggml.model", kind, ["gpt2", "llama"]);
  const name = required(metadata, "tokenizer.ggml.pre", "string");
  const preTokenizer = PRE_TOKENIZERS.get(name);
  if (!preTokenizer) throw refuse("tokenizer.ggml.pre", name, [...PRE_TOKENIZERS.keys()]);
  return bytePairFiles(metadata, await readPieces(metadata, slice), preTokenizer);
}

/** The tokens and their types, by id. */
interface Pieces {
  readonly tokens: readonly string[];
  readonly types: ArrayLike<number>;
  /** Token → id, without unused tokens. */
  readonly vocab: ReadonlyMap<string, number>;
  readonly addedTokens: readonly AddedPiece[];
}

/** An entry of tokenizer.json's added_tokens. */
interface AddedPiece {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
  readonly normalized: false;
}

async function readPieces(metadata: GgufMetadata, slice: TimeSlice): Promise<Pieces> {
  const tokens = stringArray(metadata, "tokenizer.ggml.tokens");
  const types = numberArray(metadata, "tokenizer.ggml.token_type", tokens.length);
  const vocab = new Map<string, number>();
  const addedTokens: AddedPiece[] = [];
  for (let id = 0; id < tokens.length; id++) {
    if (id % ROUNDS_BETWEEN_LOOKS === 0 && slice.isOver) await slice.next();
    const token = tokens[id] ?? "";
    const type = types[id];
    const isSpecial = type === CONTROL || type === UNKNOWN;
    if (isSpecial || type === USER_DEFINED) addedTokens.push({ id, content: token, special: isSpecial, normalized: false });
    if (type === UNUSED) continue;
    const earlier = vocab.get(token);
    if (earlier !== undefined) throw broken(`tokens ${earlier} and ${id} are both ${quoted(token)}, expected each token once`);
    vocab.set(token, id);
  }
  return { tokens, types, vocab, addedTokens };
}

function bytePairFiles(metadata: GgufMetadata, pieces: Pieces, preTokenizer: PreTokenizer): TokenizerFiles {
  const { words, normalizer = null, ignoreMerges = false, addsBos = false } = preTokenizer;
  const merges = stringArray(metadata, "tokenizer.ggml.merges");
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false };
  return files(metadata, pieces, addsBos, {
    normalizer,
    pre_tokenizer: { type: "Sequence", pretokenizers: [...words.map(isolate), byteLevel] },
    decoder: byteLevel,
    model: { type: "BPE", vocab: pieces.vocab, merges, ignore_merges: ignoreMerges },
  });
}

/** SentencePiece's byte-pair model: its scores order the merges. */
async function sentencePieceFiles(metadata: GgufMetadata, pieces: Pieces, slice: TimeSlice): Promise<TokenizerFiles> {
  if (optional(metadata, "tokenizer.ggml.remove_extra_whitespaces", "boolean")) {
    throw new LlmError("unsupported", "GGUF: tokenizer.ggml.remove_extra_whitespaces is true, expected false or none.");
  }
  const scores = numberArray(metadata, "tokenizer.ggml.scores", pieces.tokens.length);
  const addsSpace = optional(metadata, "tokenizer.ggml.add_space_prefix", "boolean") ?? true;
  const markSpaces = { type: "Replace", pattern: { String: " " }, content: "▁" };
  const unknown = pieces.tokens.find((_, id) => pieces.types[id] === UNKNOWN) ?? null;
  return files(metadata, pieces, true, {
    normalizer: { type: "Sequence", normalizers: [...(addsSpace ? [{ type: "Prepend", prepend: "▁" }] : []), markSpaces] },
    pre_tokenizer: null,
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: "▁" }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        ...(addsSpace ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : []),
      ],
    },
    model: {
      type: "BPE",
      vocab: pieces.vocab,
      merges: await mergesFromScores(pieces, scores, slice),
      unk_token: unknown,
      fuse_unk: true,
      byte_fallback: true,
    },
  });
}

/** Every split of a piece into two others, highest score first; for the same piece, the longest left part first. */
async function mergesFromScores({ tokens, types }: Pieces, scores: ArrayLike<number>, slice: TimeSlice): Promise<[string, string][]> {
  const pieces = new Set(tokens.filter((_, id) => types[id] === NORMAL));
  const merges: { readonly score: number; readonly pair: [string, string] }[] = [];
  for (const [id, token] of tokens.entries()) {
    if (id % ROUNDS_BETWEEN_LOOKS === 0 && slice.isOver) await slice.next();
    if (types[id] !== NORMAL) continue;
    for (let length = token.length - 1; length > 0; length--) {
      const left = token.slice(0, length); // half a surrogate pair is never a piece
      if (!pieces.has(left)) continue;
      const right = token.slice(length);
      if (pieces.has(right)) merges.push({ score: scores[id] ?? 0, pair: [left, right] });
    }
  }
  merges.sort((a, b) => b.score - a.score); // stable: the splits of a piece keep their order
  return merges.map(({ pair }) => pair);
}

/** The files for both kinds: added tokens, tokens around a text, named special tokens, chat template, stop tokens. */
function files(
  metadata: GgufMetadata,
  pieces: Pieces,
  addsBosByDefault: boolean,
  parts: Readonly<Record<string, unknown>>,
): TokenizerFiles {
  const { tokens, addedTokens } = pieces;
  const special = (name: string) => specialToken(metadata, tokens, name);
  const bos = special("bos");
  const eos = special("eos");
  const addsBos = optional(metadata, "tokenizer.ggml.add_bos_token", "boolean") ?? addsBosByDefault;
  const addsEos = optional(metadata, "tokenizer.ggml.add_eos_token", "boolean") ?? false;
  const frame = (token: SpecialToken | null) => (token ? [{ SpecialToken: { id: token.content } }] : []);
  return {
    tokenizer: {
      ...parts,
      added_tokens: addedTokens,
      post_processor: {
        type: "TemplateProcessing",
        single: [...(addsBos ? frame(bos) : []), { Sequence: { id: "A" } }, ...(addsEos ? frame(eos) : [])],
        special_tokens: Object.fromEntries([bos, eos].flatMap((token) => (token ? [[token.content, { ids: [token.id] }]] : []))),
      },
    },
    config: {
      bos_token: bos?.content,
      eos_token: eos?.content,
      unk_token: special("unknown")?.content,
      pad_token: special("padding")?.content,
      chat_template: optional(metadata, "tokenizer.chat_template", "string"),
    },
    generationConfig: { eos_token_id: [eos, special("eot"), special("eom")].flatMap((token) => (token ? [token.id] : [])) },
  };
}

interface SpecialToken {
  readonly id: number;
  readonly content: string;
}

/** The token that `tokenizer.ggml.<name>_token_id` points to, or null if there is no such key. */
function specialToken(metadata: GgufMetadata, tokens: readonly string[], name: string): SpecialToken | null {
  const key = `tokenizer.ggml.${name}_token_id`;
  const id = optional(metadata, key, "number");
  if (id === undefined) return null;
  const content = tokens[id];
  if (content === undefined) throw broken(`${key} is ${id}, but there are ${tokens.length} tokens`);
  return { id, content };
}

interface Scalars {
  string: string;
  number: number;
  boolean: boolean;
}

function optional<T extends keyof Scalars>(metadata: GgufMetadata, key: string, type: T): Scalars[T] | undefined {
  const value = metadata.get(key);
  if (value === undefined || typeof value === type) return value as Scalars[T] | undefined;
  throw broken(`${key} is a ${typeof value}, expected a ${type}`);
}

function required<T extends keyof Scalars>(metadata: GgufMetadata, key: string, type: T): Scalars[T] {
  const value = optional(metadata, key, type);
  if (value === undefined) throw broken(`${key} is missing, so the file holds no tokenizer; give the model's tokenizer.json`);
  return value;
}

function stringArray(metadata: GgufMetadata, key: string): readonly string[] {
  const value = metadata.get(key);
  if (!Array.isArray(value) || value.length === 0)
    throw broken(`${key} is ${value === undefined ? "missing" : "not an array"}, expected strings`);
  const other = value.findIndex((item) => typeof item !== "string");
  if (other >= 0) throw broken(`${key}[${other}] is a ${typeof value[other]}, expected a string`);
  return value;
}

/** An array with one number for each token. */
function numberArray(metadata: GgufMetadata, key: string, length: number): ArrayLike<number> {
  const value = metadata.get(key);
  const isNumbers = value instanceof Float64Array || (Array.isArray(value) && value.every((item) => typeof item === "number"));
  if (!isNumbers) throw broken(`${key} is ${value === undefined ? "missing" : "not an array of numbers"}, expected one for each token`);
  const numbers = value as ArrayLike<number>;
  if (numbers.length !== length) throw broken(`${key} has ${numbers.length} values, expected ${length}, one for each token`);
  return numbers;
}

function broken(what: string): LlmError {
  return new LlmError("bad-tokenizer", `GGUF: ${what}.`);
}
