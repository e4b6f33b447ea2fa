// Turns the vocabulary in a GGUF's metadata into the tokenizer.json and tokenizer_config.json that it was made from.
import { LlmError } from "../errors";
import { quoted } from "../quoted";
import { TimeSlice } from "../time-slice";
import { assumedPreTokenizer, PRE_TOKENIZERS, type PreTokenizer, preTokenizerNamed } from "./gguf-pre-tokenizers";
import { isControlSpelling, isKnownEnd } from "./token-roles";
import type { TokenizerFiles } from "./tokenizer-config";
import type { OnTokenizerEvent } from "./tokenizer-event";
import { isolate } from "./tokenizer-json";

export type GgufMetadata = ReadonlyMap<string, unknown>;

export interface VocabularyOptions {
  readonly onEvent?: OnTokenizerEvent | undefined;
  readonly signal?: AbortSignal | undefined;
}

// The values of tokenizer.ggml.token_type.
const NORMAL = 1;
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;
const UNUSED = 5;
const BYTE = 6; // of SentencePiece

const ROUNDS_BETWEEN_LOOKS = 512; // reading the clock costs as much as one round

/**
 * The files, with a `Map` as "model.vocab". The page runs between slices of the work.
 *
 * @throws LlmError "bad-tokenizer" if the metadata hold no vocabulary or a broken one, "unsupported" (after an event) if they name an unknown
 * tokenizer or pre-tokenizer; the signal's reason when aborted.
 */
export async function readGgufVocabulary(metadata: GgufMetadata, options: VocabularyOptions = {}): Promise<TokenizerFiles> {
  const { onEvent = () => undefined, signal } = options;
  const slice = new TimeSlice(signal);
  const kind = required(metadata, "tokenizer.ggml.model");
  const refuse = (key: string, found: string, expected: readonly string[]) => {
    onEvent({ type: "tokenizer-unsupported", key, found, expected });
    const reason = "Read otherwise, text would get other ids than the model was trained on.";
    const advice = "A tokenizer.json beside the file would be used instead.";
    return new LlmError("unsupported", `GGUF: ${key} is ${quoted(found)}, expected one of ${expected.join(", ")}. ${reason} ${advice}`);
  };
  const reading: Reading = { metadata, slice, onEvent };
  if (kind === "llama") return sentencePieceFiles(reading, await readPieces(reading, "sentencepiece"));
  if (kind !== "gpt2") throw refuse("tokenizer.ggml.model", kind, ["gpt2", "llama"]);
  const name = splitName(reading);
  const preTokenizer = preTokenizerNamed(name);
  if (!preTokenizer) throw refuse("tokenizer.ggml.pre", name, [...PRE_TOKENIZERS.keys()]);
  return bytePairFiles(reading, await readPieces(reading, "byte-pair"), preTokenizer);
}

/** Whether how the vocabulary splits text can only be guessed: files made before April 2024 do not say. */
export function lacksSplit(metadata: GgufMetadata): boolean {
  return metadata.get("tokenizer.ggml.model") === "gpt2" && !metadata.has("tokenizer.ggml.pre");
}

function splitName({ metadata, onEvent }: Reading): string {
  const key = "tokenizer.ggml.pre";
  const stated = optional(metadata, key, "string");
  if (stated !== undefined) return stated;
  const tokens = metadata.get("tokenizer.ggml.tokens");
  const name = assumedPreTokenizer(metadata.get("general.architecture"), Array.isArray(tokens) ? tokens.length : 0);
  const found = "missing, as in files made before April 2024";
  onEvent({ type: "tokenizer-doubt", key, found, instead: `read as "${name}"; a file converted anew says how its words are split` });
  return name;
}

interface Reading {
  readonly metadata: GgufMetadata;
  readonly slice: TimeSlice;
  readonly onEvent: OnTokenizerEvent;
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

async function readPieces({ metadata, slice, onEvent }: Reading, kind: "byte-pair" | "sentencepiece"): Promise<Pieces> {
  const tokens = stringArray(metadata, "tokenizer.ggml.tokens");
  const types = typesOf(metadata, tokens, kind, onEvent);
  const isMistyped = controlsTypedAsText(metadata, kind);
  const vocab = new Map<string, number>();
  const addedTokens: AddedPiece[] = [];
  for (let id = 0; id < tokens.length; id++) {
    if (id % ROUNDS_BETWEEN_LOOKS === 0 && slice.isOver) await slice.next();
    const token = tokens[id] ?? "";
    if (token === "") continue; // no token: nothing is spelled so
    let type = types[id] ?? NORMAL;
    if (type === NORMAL && isMistyped(token, id)) type = types[id] = CONTROL;
    const isSpecial = type === CONTROL || type === UNKNOWN;
    if (isSpecial || type === USER_DEFINED) addedTokens.push({ id, content: token, special: isSpecial, normalized: false });
    if (type === UNUSED) continue;
    const earlier = vocab.get(token);
    if (earlier !== undefined) throw broken(`tokens ${earlier} and ${id} are both ${quoted(token)}, expected each token once`);
    vocab.set(token, id);
  }
  return { tokens, types, vocab, addedTokens };
}

/** A copy, which may be corrected. */
function typesOf(metadata: GgufMetadata, tokens: readonly string[], kind: string, onEvent: OnTokenizerEvent): number[] {
  const key = "tokenizer.ggml.token_type";
  if (metadata.has(key)) return Array.from(numberArray(metadata, key, tokens.length));
  onEvent({
    type: "tokenizer-doubt",
    key,
    found: "missing",
    instead: "all tokens are text, but for those that are known by their spelling",
  });
  if (kind === "byte-pair") return tokens.map(() => NORMAL);
  const unknown = metadata.get("tokenizer.ggml.unknown_token_id");
  return tokens.map((token, id) => {
    if (id === unknown || token === "<unk>") return UNKNOWN;
    if (token === "<s>" || token === "</s>") return CONTROL;
    return /^<0x[0-9A-F]{2}>$/.test(token) ? BYTE : NORMAL;
  });
}

/** Tells the tokens that end answers or mark turns and that no merges make, whatever type a converter gave them. */
function controlsTypedAsText(metadata: GgufMetadata, kind: "byte-pair" | "sentencepiece"): (token: string, id: number) => boolean {
  const named = new Set(TOKEN_KEYS.map((name) => metadata.get(`tokenizer.ggml.${name}_token_id`)));
  const template = metadata.get("tokenizer.chat_template");
  const isWritten = (token: string) => typeof template === "string" && template.includes(token);
  const tokens = metadata.get("tokenizer.ggml.tokens");
  const hasTags = Array.isArray(tokens) && tokens.includes("</b>"); // `</s>` is then HTML too
  const merges = metadata.get("tokenizer.ggml.merges");
  const isLearnt = (token: string) => {
    const pairs = new Set(Array.from(token, (_, at) => `${token.slice(0, at)} ${token.slice(at)}`));
    return kind === "byte-pair" && Array.isArray(merges) && merges.some((merge) => pairs.has(merge));
  };
  return (token, id) => {
    const isControl =
      (isKnownEnd(token) && !(token === "</s>" && hasTags)) ||
      (named.has(id) && /^[<[].*[>\]]$/.test(token)) ||
      (isControlSpelling(token) && isWritten(token));
    return isControl && !isLearnt(token);
  };
}

const TOKEN_KEYS = ["bos", "eos", "eot", "eom", "unknown", "padding"];

function bytePairFiles(reading: Reading, pieces: Pieces, preTokenizer: PreTokenizer): TokenizerFiles {
  const { words, normalizer = null, ignoreMerges = false, addsBos = false } = preTokenizer;
  const merges = stringArray(reading.metadata, "tokenizer.ggml.merges");
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false };
  return files(reading, pieces, addsBos, {
    normalizer,
    pre_tokenizer: { type: "Sequence", pretokenizers: [...words.map(isolate), byteLevel] },
    decoder: byteLevel,
    model: { type: "BPE", vocab: pieces.vocab, merges, ignore_merges: ignoreMerges },
  });
}

/** SentencePiece's byte-pair model: its scores order the merges. */
async function sentencePieceFiles(reading: Reading, pieces: Pieces): Promise<TokenizerFiles> {
  const { metadata, slice } = reading;
  if (optional(metadata, "tokenizer.ggml.remove_extra_whitespaces", "boolean")) {
    throw new LlmError("unsupported", "GGUF: tokenizer.ggml.remove_extra_whitespaces is true, expected false or none.");
  }
  const scores = numberArray(metadata, "tokenizer.ggml.scores", pieces.tokens.length);
  const addsSpace = optional(metadata, "tokenizer.ggml.add_space_prefix", "boolean") ?? true;
  const markSpaces = { type: "Replace", pattern: { String: " " }, content: "▁" };
  const unknown = pieces.tokens.find((_, id) => pieces.types[id] === UNKNOWN) ?? null;
  return files(reading, pieces, true, {
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
function files(reading: Reading, pieces: Pieces, addsBosByDefault: boolean, parts: Readonly<Record<string, unknown>>): TokenizerFiles {
  const { metadata } = reading;
  const { addedTokens } = pieces;
  const addsBos = optional(metadata, "tokenizer.ggml.add_bos_token", "boolean") ?? addsBosByDefault;
  const addsEos = optional(metadata, "tokenizer.ggml.add_eos_token", "boolean") ?? false;
  const special = (name: string) => specialToken(reading, pieces, name);
  const bos = special("bos") ?? (addsBos ? firstToken(reading, pieces) : null);
  const eos = special("eos");
  if (addsEos && eos === null && metadata.has("tokenizer.ggml.eos_token_id")) throw noToken(reading, "eos");
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
      chat_template: chatTemplateOf(reading),
    },
    chatTemplateName: TEMPLATE_KEY,
    generationConfig: { eos_token_id: [eos, special("eot"), special("eom")].flatMap((token) => (token ? [token.id] : [])) },
  };
}

const TEMPLATE_KEY = "tokenizer.chat_template";

function chatTemplateOf({ metadata, onEvent }: Reading): string | undefined {
  const template = metadata.get(TEMPLATE_KEY);
  if (template === undefined || typeof template === "string") return template;
  const found = template instanceof Uint8Array ? "not UTF-8" : quoted(template);
  onEvent({ type: "tokenizer-doubt", key: TEMPLATE_KEY, found, instead: "no chats; text can be completed" });
  return undefined;
}

/** `files`, which lie beside a GGUF, with the ends of answers that it names, and its template where they have none. */
export function withGgufRoles(files: TokenizerFiles, metadata: GgufMetadata): TokenizerFiles {
  const ids = ["eos", "eot", "eom"].map((name) => metadata.get(`tokenizer.ggml.${name}_token_id`));
  const { config } = files;
  const isPlain = typeof config === "object" && config !== null && !Array.isArray(config);
  const template = metadata.get(TEMPLATE_KEY);
  const hasTemplate = files.chatTemplate !== undefined || (isPlain && "chat_template" in config);
  return {
    ...files,
    modelConfig: { eos_token_id: ids.filter((id) => id !== undefined) },
    ...(!hasTemplate &&
      typeof template === "string" && { config: { ...(isPlain ? config : {}), chat_template: template }, chatTemplateName: TEMPLATE_KEY }),
  };
}

interface SpecialToken {
  readonly id: number;
  readonly content: string;
}

/** The token that `tokenizer.ggml.<name>_token_id` points to. Null without the key, and (after an event) where there is no such token. */
function specialToken({ metadata, onEvent }: Reading, { tokens }: Pieces, name: string): SpecialToken | null {
  const key = `tokenizer.ggml.${name}_token_id`;
  const id = metadata.get(key);
  if (id === undefined) return null;
  const content = typeof id === "number" ? tokens[id] : undefined;
  if (typeof id === "number" && content) return { id, content };
  onEvent({ type: "tokenizer-doubt", key, found: quoted(id), instead: `left out: it is none of ${tokens.length} tokens` });
  return null;
}

const FIRST_TOKENS = ["<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>"];

/** The token that begins a text by its spelling. Null where the file names none and has none of these. */
function firstToken(reading: Reading, { vocab }: Pieces): SpecialToken | null {
  const content = FIRST_TOKENS.find((token) => vocab.has(token));
  const id = vocab.get(content ?? "");
  const isNamed = reading.metadata.has("tokenizer.ggml.bos_token_id");
  if (content === undefined || id === undefined) {
    if (isNamed) throw noToken(reading, "bos");
    return null;
  }
  if (!isNamed) {
    const key = "tokenizer.ggml.bos_token_id";
    reading.onEvent({ type: "tokenizer-doubt", key, found: "missing", instead: `texts begin with "${content}"` });
  }
  return { id, content };
}

/** The error for a token that is put around every text, which the file does not have. */
function noToken({ metadata }: Reading, name: string): LlmError {
  const key = `tokenizer.ggml.${name}_token_id`;
  return broken(`${key} is ${quoted(metadata.get(key))}, which is no token, and every text needs it`);
}

interface Scalars {
  string: string;
  number: number;
  boolean: boolean;
}

function optional<T extends keyof Scalars>(metadata: GgufMetadata, key: string, type: T): Scalars[T] | undefined {
  const value = metadata.get(key);
  if (value === undefined || typeof value === type) return value as Scalars[T] | undefined;
  throw broken(`${key} is ${value instanceof Uint8Array ? "not UTF-8" : `a ${typeof value}`}, expected a ${type}`);
}

function required(metadata: GgufMetadata, key: string): string {
  const value = optional(metadata, key, "string");
  if (value === undefined) throw broken(`${key} is missing, so the file holds no tokenizer. A tokenizer.json beside it would be used`);
  return value;
}

function stringArray(metadata: GgufMetadata, key: string): readonly string[] {
  const value = metadata.get(key);
  if (!Array.isArray(value) || value.length === 0)
    throw broken(`${key} is ${value === undefined ? "missing" : "not an array"}, expected strings`);
  const other = value.findIndex((item) => typeof item !== "string");
  if (other >= 0) {
    const found = value[other] instanceof Uint8Array ? "not UTF-8" : `a ${typeof value[other]}`;
    throw broken(`${key}[${other}] is ${found}, expected a string`);
  }
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
