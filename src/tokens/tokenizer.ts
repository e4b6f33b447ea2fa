// Converts text to token ids and back, and conversations to prompts, as a model's tokenizer files or its GGUF define.
import { assert } from "../assert";
import { LlmError } from "../errors";
import { type ChatMessage, ChatTemplate, type RenderOptions } from "./chat-template";
import { Detokenizer } from "./detokenizer";
import { type GgufMetadata, readGgufVocabulary } from "./gguf-vocabulary";
import { SpecialTokenGuard } from "./special-token-guard";
import { isByteToken, readDecoder, singleCharacterIds, type TokenSpelling, tokenBytes } from "./token-bytes";
import { TokenEncoder } from "./token-encoder";
import { pairedTags, writtenTokens } from "./token-roles";
import { readTokenizerConfig, type TokenizerConfig, type TokenizerFiles, type VocabularyFacts } from "./tokenizer-config";
import type { OnTokenizerEvent } from "./tokenizer-event";
import { readTokenizerJson, type TokenizerJson } from "./tokenizer-json";

export type { TokenizerFiles } from "./tokenizer-config";
export type { TokenizerEvent } from "./tokenizer-event";

export interface TokenizerOptions {
  readonly onEvent?: OnTokenizerEvent | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Takes the place of the files' chat template. */
  readonly chatTemplate?: string | undefined;
}

/** The sampler holds so many (kernels/sampling-params.ts). */
const MAX_STOP_IDS = 64;

/** An index into the vocabulary. Not branded, since ids come from typed arrays and JSON; `PageId` is branded, so the two never mix. */
export type TokenId = number;

export interface EncodeOptions {
  /** Adds the model's first token, and its last if it has one, around the text. Default true. */
  readonly addSpecialTokens?: boolean;
  /** The text continues other text, so no space is added before it. Default false. */
  readonly continuesText?: boolean;
}

export interface DecodeOptions {
  /** Omits special tokens. Default true. */
  readonly skipSpecialTokens?: boolean;
  /** The ids continue other text, so a space at their start is kept. Default false. */
  readonly continuesText?: boolean;
}

const NO_IDS: ReadonlySet<TokenId> = new Set();
const NOTHING_WRITTEN: ReturnType<typeof writtenTokens> = { written: new Set(), ends: new Set() };

export class Tokenizer {
  /** The vocabulary's highest id + 1. The model may have more rows; their ids are not tokens and have no text. */
  readonly vocabSize: number;
  /** Control tokens, including those that the configuration names as special. */
  readonly specialIds: ReadonlySet<TokenId>;
  /** The token that begins a sequence, or null. `encode` adds it only if the model was trained that way. */
  readonly bosId: TokenId | null;
  /** Tokens that end an answer: the end of a sequence, a turn or a message. */
  readonly stopIds: ReadonlySet<TokenId>;
  /** Null where the model has none, and where it cannot be read: `chatTemplateError` then says why. */
  readonly chatTemplate: ChatTemplate | null;
  readonly chatTemplateError: LlmError | null;

  readonly #encoder: TokenEncoder;
  readonly #frame: TokenizerJson["frame"];
  readonly #spelling: TokenSpelling;
  /** For messages that come from outside. */
  readonly #guard: SpecialTokenGuard;
  /** For the application's and the model's own. */
  readonly #ownGuard: SpecialTokenGuard;

  /**
   * @throws LlmError "bad-tokenizer" for missing or broken files, "unsupported" for a tokenizer that we do not support; the signal's reason when
   * aborted.
   */
  static async fromJson(files: TokenizerFiles, options: TokenizerOptions = {}): Promise<Tokenizer> {
    const { onEvent = () => undefined, signal, chatTemplate } = options;
    const json = await readTokenizerJson(files.tokenizer, signal);
    const config = readTokenizerConfig(files, factsOf(json), onEvent);
    const given =
      chatTemplate === undefined ? null : new ChatTemplate(chatTemplate, config.tokenNames, { where: "the option chatTemplate" });
    return new Tokenizer(json, config, given ?? readTemplate(config, onEvent), onEvent);
  }

  /** @throws LlmError as `fromJson` does. An event precedes "unsupported". */
  static async fromGguf(metadata: GgufMetadata, options: TokenizerOptions = {}): Promise<Tokenizer> {
    return Tokenizer.fromJson(await readGgufVocabulary(metadata, options), options);
  }

  private constructor(json: TokenizerJson, config: TokenizerConfig, template: ChatTemplate | LlmError | null, onEvent: OnTokenizerEvent) {
    this.vocabSize = json.vocabSize;
    this.bosId = config.bosId;
    this.chatTemplate = template instanceof LlmError ? null : template;
    this.chatTemplateError = template instanceof LlmError ? template : null;
    this.#frame = json.frame;
    this.#encoder = new TokenEncoder(json);
    const { tokens } = json.vocabulary;
    this.#spelling = {
      decoding: readDecoder(json.decoder),
      tokenOf: (id) => tokens[id],
      addedIds: new Set(json.addedTokens.map(({ id }) => id)),
    };
    const contents = json.addedTokens.map(({ content }) => content);
    const { written, ends } = this.chatTemplate ? writtenTokens(this.chatTemplate, contents) : NOTHING_WRITTEN;
    const idsOf = (among: ReadonlySet<string>) => json.addedTokens.flatMap(({ id, content }) => (among.has(content) ? id : []));
    const isHarmony = json.vocabulary.ids.has("<|return|>"); // its <|end|> ends a part of an answer
    const templateEnds = idsOf(isHarmony ? new Set([...ends].filter((end) => end !== "<|end|>")) : ends);
    this.stopIds = cutStops([...config.stopIds, ...templateEnds], onEvent);
    this.specialIds = new Set([...config.specialIds, ...templateEnds]);
    const special = json.addedTokens.flatMap(({ id, content }) => (this.specialIds.has(id) ? content : []));
    const paired = pairedTags(new Set(contents));
    this.#guard = new SpecialTokenGuard([...special, ...written]);
    this.#ownGuard = new SpecialTokenGuard([...special, ...[...written].filter((token) => !paired.has(token))]);
  }

  /** The ids of `text`. Special tokens in it are recognised, as in Hugging Face's tokenizers. */
  encode(text: string, { addSpecialTokens = true, continuesText = false }: EncodeOptions = {}): TokenId[] {
    const ids = continuesText && this.#putsSpaceFirst ? this.#encodeAfterBreak(text) : this.#encoder.encode(text);
    return addSpecialTokens ? [...this.#frame.before, ...ids, ...this.#frame.after] : ids;
  }

  /** The text of `ids`, with U+FFFD for invalid UTF-8 and no text for ids that are not tokens. */
  decode(ids: Iterable<TokenId>, options: DecodeOptions = {}): string {
    const stream = this.detokenizer(options);
    let text = "";
    for (const id of ids) text += stream.push(id);
    return text + stream.flush();
  }

  /** A stream from the ids of one text to the text. */
  detokenizer({ skipSpecialTokens = true, continuesText = false }: DecodeOptions = {}): Detokenizer {
    return new Detokenizer({
      spelling: this.#spelling,
      hiddenIds: skipSpecialTokens ? this.specialIds : NO_IDS,
      dropsFirstSpace: this.#putsSpaceFirst && !continuesText,
    });
  }

  /**
   * Tokens that every stage needs: added tokens, control tokens, those that end an answer, single bytes, and a SentencePiece vocabulary's single
   * characters, which come last there. With them any chat can be written and ended.
   */
  requiredIds(): TokenId[] {
    const ids = new Set(singleCharacterIds(this.vocabSize, this.#spelling));
    const { addedIds } = this.#spelling;
    for (let id = 0; id < this.vocabSize; id++) {
      const isRole = addedIds.has(id) || this.specialIds.has(id) || this.stopIds.has(id);
      if (isRole || isByteToken(id, this.#spelling)) ids.add(id);
    }
    return [...ids].sort((a, b) => a - b);
  }

  /** The token as its vocabulary spells it; undefined for an id that is none. */
  tokenSpelling(id: TokenId): string | undefined {
    return this.#spelling.tokenOf(id);
  }

  /** The text bytes of one token, possibly part of a character. */
  tokenBytes(id: TokenId): Uint8Array {
    return tokenBytes(id, this.#spelling);
  }

  /**
   * Renders a conversation as the prompt that the model was trained on. Encode it without adding special tokens. A special token in a message, or
   * one that the template writes, stays text when encoded, so it ends no turn: an invisible guard is put into it (see special-token-guard.ts). Tags
   * in pairs, like `<think>`, stay tokens in the model's and the application's messages.
   * @throws LlmError "bad-tokenizer" without a chat template, otherwise as `ChatTemplate.render`.
   */
  renderChat(messages: readonly ChatMessage[], options: RenderOptions = {}): string {
    if (this.chatTemplateError) {
      const { code, message } = this.chatTemplateError;
      throw new LlmError(code, `${message} Text can be completed without it.`, { cause: this.chatTemplateError });
    }
    if (!this.chatTemplate) {
      throw new LlmError("bad-tokenizer", "The model has no chat template: it continues text but knows no conversations.");
    }
    const guardOf = (role: ChatMessage["role"]) => (role === "user" || role === "tool" ? this.#guard : this.#ownGuard);
    const guarded = messages.map((message) => ({ ...message, content: guardOf(message.role).guard(message.content) }));
    return this.chatTemplate.render(guarded, options);
  }

  /** Whether the encoder adds a space before every text. */
  get #putsSpaceFirst(): boolean {
    const { decoding } = this.#spelling;
    return decoding.kind === "sentencepiece" && decoding.dropsFirstSpace;
  }

  /** The ids of `text`, encoded after a line break. The line break takes the added space, and merges with nothing in these vocabularies. */
  #encodeAfterBreak(text: string): TokenId[] {
    const before = this.#encoder.encode("\n");
    const ids = this.#encoder.encode(`\n${text}`);
    assert(
      before.every((id, index) => ids[index] === id),
      "a line break merges with the text after it",
    );
    return ids.slice(before.length);
  }
}

function factsOf({ addedTokens, vocabulary }: TokenizerJson): VocabularyFacts {
  const { ids, tokens, ranks, separator } = vocabulary;
  const added = new Set(addedTokens.map(({ content }) => content));
  return {
    addedTokens,
    idOf: (token) => ids.get(token),
    isToken: (id) => tokens[id] !== undefined,
    has: (token) => ids.has(token),
    isSpecial: (token) => addedTokens.some(({ content, special }) => special && content === token),
    isLearnt: (token) =>
      !added.has(token) && Array.from(token, (_, at) => token.slice(0, at) + separator + token.slice(at)).some((pair) => ranks.has(pair)),
  };
}

/** A template that cannot be read stops chats, not the model. */
function readTemplate({ chatTemplate, tokenNames }: TokenizerConfig, onEvent: OnTokenizerEvent): ChatTemplate | LlmError | null {
  if (chatTemplate === null) return null;
  try {
    return new ChatTemplate(chatTemplate.source, tokenNames, { where: chatTemplate.where });
  } catch (error) {
    if (!(error instanceof LlmError)) throw error;
    onEvent({ type: "tokenizer-doubt", key: chatTemplate.where, found: error.message, instead: "no chats; text can be completed" });
    return error;
  }
}

function cutStops(ids: readonly TokenId[], onEvent: OnTokenizerEvent): ReadonlySet<TokenId> {
  const stops = [...new Set(ids)];
  if (stops.length > MAX_STOP_IDS) {
    const instead = `the first ${MAX_STOP_IDS} end answers`;
    onEvent({ type: "tokenizer-doubt", key: "tokens that end an answer", found: `${stops.length} tokens`, instead });
  }
  return new Set(stops.slice(0, MAX_STOP_IDS));
}
