// Token ids in, text out, as it becomes certain: a character whose bytes are spread over several tokens appears with its last one.
import { type TokenSpelling, tokenBytes } from "./token-bytes";

export interface DetokenizerOptions {
  readonly spelling: TokenSpelling;
  /** Ids that have no text here: the special tokens, or none. */
  readonly hiddenIds: ReadonlySet<number>;
  /** Whether a space that begins the text belongs to the vocabulary's spelling and not to the text. */
  readonly dropsFirstSpace: boolean;
}

/** A text of one sequence. The pushes and the flush, joined, are what decoding all ids at once gives; a push costs O(its bytes). */
export class Detokenizer {
  readonly #options: DetokenizerOptions;
  // Streaming, it keeps the bytes of an unfinished character, and replaces those that can become none by U+FFFD.
  readonly #utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
  #isAtStart = true;

  constructor(options: DetokenizerOptions) {
    this.#options = options;
  }

  /** The text that `id` completes; empty for part of a character, a hidden token, and an id that is no token. */
  push(id: number): string {
    const { spelling, hiddenIds } = this.#options;
    if (hiddenIds.has(id)) return "";
    return this.#withoutFirstSpace(this.#utf8.decode(tokenBytes(id, spelling), { stream: true }));
  }

  /** Ends the text: U+FFFD for a character that was never finished, else nothing. */
  flush(): string {
    return this.#withoutFirstSpace(this.#utf8.decode());
  }

  #withoutFirstSpace(text: string): string {
    if (!this.#isAtStart || text === "") return text;
    this.#isAtStart = false;
    return this.#options.dropsFirstSpace && text.startsWith(" ") ? text.slice(1) : text;
  }
}
