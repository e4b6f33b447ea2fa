// Converts text to token ids and back, and conversations to prompts, as a model's tokenizer files or its GGUF define.
import { Tokenizer as HubTokenizer } from "@huggingface/tokenizers";
import { assert } from "../assert";
import { LlmError } from "../errors";
import { BytePairModel } from "./byte-pair-model";
import { type ChatMessage, ChatTemplate, type RenderOptions } from "./chat-template";
import { Detokenizer } from "./detokenizer";
import { type GgufMetadata, readGgufVocabulary, type VocabularyOptions } from "./gguf-vocabulary";
import { SpecialTokenGuard } from "./special-token-guard";
import { isByteToken, readDecoder, type TokenSpelling, tokenBytes } from "./token-bytes";
import { readTokenizerConfig, type TokenizerConfig, type TokenizerFiles } from "./tokenizer-config";
import { readTokenizerJson, type TokenizerJson } from "./tokenizer-json";

export type { TokenizerEvent } from "./gguf-vocabulary";
export type { TokenizerFiles } from "./tokenizer-config";

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

export class Tokenizer {
  /** The vocabulary's highest id + 1. The model may have more rows; their ids are not tokens and have no text. */
  readonly vocabSize: number;
  /** Control tokens, including those that the configuration names as special. */
  readonly specialIds: ReadonlySet<TokenId>;
  /** The token that begins a sequence, or null. `encode` adds it only if the model was trained that way. */
  readonly bosId: TokenId | null;
  /** Tokens that end an answer: the end of a sequence, a turn or a message. */
  readonly stopIds: ReadonlySet<TokenId>;
  readonly chatTemplate: ChatTemplate | null;

  readonly #library: HubTokenizer;
  readonly #frame: TokenizerJson["frame"];
  readonly #spelling: TokenSpelling;
  readonly #guard: SpecialTokenGuard;

  /**
   * @throws LlmError "bad-tokenizer" for missing or broken files, "unsupported" for a tokenizer that we do not support; the signal's reason when
   * aborted.
   */
  static async fromJson(files: TokenizerFiles, signal?: AbortSignal): Promise<Tokenizer> {
    const json = await readTokenizerJson(files.tokenizer, signal);
    return new Tokenizer(json, readTokenizerConfig(files, json.addedTokens));
  }

  /** @throws LlmError as `fromJson` does. An event precedes "unsupported". */
  static async fromGguf(metadata: GgufMetadata, options: VocabularyOptions = {}): Promise<Tokenizer> {
    return Tokenizer.fromJson(await readGgufVocabulary(metadata, options), options.signal);
  }

  private constructor(json: TokenizerJson, config: TokenizerConfig) {
    this.vocabSize = json.vocabSize;
    this.specialIds = config.specialIds;
    this.bosId = config.bosId;
    this.stopIds = config.stopIds;
    this.chatTemplate = config.chatTemplate === null ? null : new ChatTemplate(config.chatTemplate, config.tokenNames);
    this.#frame = json.frame;
    this.#library = makeLibraryTokenizer(json);
    const { tokens } = json.vocabulary;
    this.#spelling = {
      decoding: readDecoder(json.decoder),
      tokenOf: (id) => tokens[id],
      addedIds: new Set(json.addedTokens.map(({ id }) => id)),
    };
    this.#guard = new SpecialTokenGuard(json.addedTokens.filter(({ id }) => config.specialIds.has(id)).map(({ content }) => content));
  }

  /** The ids of `text`. Special tokens in it are recognised, as in Hugging Face's tokenizers. */
  encode(text: string, { addSpecialTokens = true, continuesText = false }: EncodeOptions = {}): TokenId[] {
    const ids = continuesText && this.#putsSpaceFirst ? this.#encodeAfterBreak(text) : this.#library.encode(text).ids;
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

  /** Tokens that every stage needs: added tokens, control tokens and single bytes. With them any chat can be written and ended. */
  requiredIds(): TokenId[] {
    const ids: TokenId[] = [];
    const { addedIds } = this.#spelling;
    for (let id = 0; id < this.vocabSize; id++) {
      if (addedIds.has(id) || this.specialIds.has(id) || isByteToken(id, this.#spelling)) ids.push(id);
    }
    return ids;
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
   * Renders a conversation as the prompt that the model was trained on. Encode it without adding special tokens. A special token in a message
   * stays text when encoded, so it ends no turn: an invisible guard is put into it (see special-token-guard.ts).
   * @throws LlmError "bad-tokenizer" without a chat template, otherwise as `ChatTemplate.render`.
   */
  renderChat(messages: readonly ChatMessage[], options: RenderOptions = {}): string {
    if (!this.chatTemplate) {
      throw new LlmError("bad-tokenizer", "The model has no chat template: it continues text but knows no conversations.");
    }
    const guarded = messages.map((message) => ({ ...message, content: this.#guard.guard(message.content) }));
    return this.chatTemplate.render(guarded, options);
  }

  /** Whether the encoder adds a space before every text. */
  get #putsSpaceFirst(): boolean {
    const { decoding } = this.#spelling;
    return decoding.kind === "sentencepiece" && decoding.dropsFirstSpace;
  }

  /** The ids of `text`, encoded after a line break. The line break takes the added space, and merges with nothing in these vocabularies. */
  #encodeAfterBreak(text: string): TokenId[] {
    const before = this.#library.encode("\n").ids;
    const { ids } = this.#library.encode(`\n${text}`);
    assert(
      before.every((id, index) => ids[index] === id),
      "a line break merges with the text after it",
    );
    return ids.slice(before.length);
  }
}

/** The library, which splits texts into words, with our own model. */
function makeLibraryTokenizer({ library, vocabulary, modelOptions }: TokenizerJson): HubTokenizer {
  try {
    const tokenizer = new HubTokenizer(library, {});
    tokenizer.model = new BytePairModel(vocabulary, modelOptions);
    return tokenizer;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new LlmError("bad-tokenizer", `tokenizer.json: ${reason}.`, { cause });
  }
}
