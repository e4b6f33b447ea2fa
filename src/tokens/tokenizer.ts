// Text to token ids and back, conversations to prompts: what a model's tokenizer files, or its GGUF, say about text.
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

/** An index into the vocabulary. Plain, since ids come from typed arrays and JSON; a `PageId` is branded, so the two never mix. */
export type TokenId = number;

export interface EncodeOptions {
  /** Puts the model's first token (and last, where it has one) around the text. Default true. */
  readonly addSpecialTokens?: boolean;
  /** The text goes on after other text, so that no space is put in front of it. Default false. */
  readonly continuesText?: boolean;
}

export interface DecodeOptions {
  /** Leaves special tokens out. Default true. */
  readonly skipSpecialTokens?: boolean;
  /** The ids go on after other text, so that a space at their start is one. Default false. */
  readonly continuesText?: boolean;
}

const NO_IDS: ReadonlySet<TokenId> = new Set();

export class Tokenizer {
  /** Ids that the vocabulary knows, the highest + 1. The model may have more rows; their ids are no tokens and have no text. */
  readonly vocabSize: number;
  /** Control tokens, with those that the configuration names as special. */
  readonly specialIds: ReadonlySet<TokenId>;
  /** The token that begins a sequence, or null. `encode` puts it in front only where the model was trained so. */
  readonly bosId: TokenId | null;
  /** Tokens that end an answer: of a sequence, of a turn, of a message. */
  readonly stopIds: ReadonlySet<TokenId>;
  readonly chatTemplate: ChatTemplate | null;

  readonly #library: HubTokenizer;
  readonly #frame: TokenizerJson["frame"];
  readonly #spelling: TokenSpelling;
  readonly #guard: SpecialTokenGuard;

  /**
   * @throws LlmError "bad-tokenizer" for files that are missing or broken, "unsupported" for a tokenizer that is none of ours; the signal's
   * reason when aborted.
   */
  static async fromJson(files: TokenizerFiles, signal?: AbortSignal): Promise<Tokenizer> {
    const json = await readTokenizerJson(files.tokenizer, signal);
    return new Tokenizer(json, readTokenizerConfig(files, json.addedTokens));
  }

  /** @throws LlmError as `fromJson`; what is unsupported is named in an event first. */
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

  /** The ids of `text`, in which special tokens are recognised, as Hugging Face's tokenizers do. */
  encode(text: string, { addSpecialTokens = true, continuesText = false }: EncodeOptions = {}): TokenId[] {
    const ids = continuesText && this.#putsSpaceFirst ? this.#encodeAfterBreak(text) : this.#library.encode(text).ids;
    return addSpecialTokens ? [...this.#frame.before, ...ids, ...this.#frame.after] : ids;
  }

  /** The text of `ids`: U+FFFD for bytes that are no UTF-8, nothing for ids that are no tokens. */
  decode(ids: Iterable<TokenId>, options: DecodeOptions = {}): string {
    const stream = this.detokenizer(options);
    let text = "";
    for (const id of ids) text += stream.push(id);
    return text + stream.flush();
  }

  /** A stream from ids to text, for one text. */
  detokenizer({ skipSpecialTokens = true, continuesText = false }: DecodeOptions = {}): Detokenizer {
    return new Detokenizer({
      spelling: this.#spelling,
      hiddenIds: skipSpecialTokens ? this.specialIds : NO_IDS,
      dropsFirstSpace: this.#putsSpaceFirst && !continuesText,
    });
  }

  /** Tokens that no model can do without: added ones, control tokens and single bytes. With them any chat can be written, and ended. */
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

  /** The text bytes of one token: maybe part of a character. */
  tokenBytes(id: TokenId): Uint8Array {
    return tokenBytes(id, this.#spelling);
  }

  /**
   * A conversation as the prompt that the model was trained on, for `encode` without special tokens added. A special token that a
   * message spells stays text when encoded, and so ends no turn: an invisible guard stands in it (see special-token-guard.ts).
   * @throws LlmError "bad-tokenizer" without a chat template, else as `ChatTemplate.render`.
   */
  renderChat(messages: readonly ChatMessage[], options: RenderOptions = {}): string {
    if (!this.chatTemplate) {
      throw new LlmError("bad-tokenizer", "The model has no chat template: it continues text but knows no conversations.");
    }
    const guarded = messages.map((message) => ({ ...message, content: this.#guard.guard(message.content) }));
    return this.chatTemplate.render(guarded, options);
  }

  /** Whether the encoder puts a space in front of every text. */
  get #putsSpaceFirst(): boolean {
    const { decoding } = this.#spelling;
    return decoding.kind === "sentencepiece" && decoding.dropsFirstSpace;
  }

  /** The ids of `text` after a line break, which takes the space that is put first and merges with nothing in these vocabularies. */
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

/** The library, which splits texts into words, over our own model. */
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
