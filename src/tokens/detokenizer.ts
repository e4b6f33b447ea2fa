// Turns token ids into text as it becomes certain: a character whose bytes are spread over several tokens appears with the last of them.
import { type TokenSpelling, tokenBytes } from "./token-bytes";

export interface DetokenizerOptions {
  readonly spelling: TokenSpelling;
  /** Ids without text here: the special tokens, or none. */
  readonly hiddenIds: ReadonlySet<number>;
  /** Whether a leading space belongs to the vocabulary's spelling and not to the text. */
  readonly dropsFirstSpace: boolean;
}

/** The text of one sequence. All pushes and the flush, joined, equal decoding all ids at once; a push costs O(its bytes). */
export class Detokenizer {
  readonly #options: DetokenizerOptions;
  // When streaming, it keeps the bytes of an unfinished character and replaces invalid bytes by U+FFFD.
  readonly #utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
  #isAtStart = true;

  constructor(options: DetokenizerOptions) {
    this.#options = options;
  }

  /** The text that `id` completes. Empty for part of a character, a hidden token, and an id without a token. */
  push(id: number): string {
    const { spelling, hiddenIds } = this.#options;
    if (hiddenIds.has(id)) return "";
    return this.#withoutFirstSpace(this.#utf8.decode(tokenBytes(id, spelling), { stream: true }));
  }

  /** Ends the text: U+FFFD for an unfinished character, otherwise empty. */
  flush(): string {
    return this.#withoutFirstSpace(this.#utf8.decode());
  }

  #withoutFirstSpace(text: string): string {
    if (!this.#isAtStart || text === "") return text;
    this.#isAtStart = false;
    return this.#options.dropsFirstSpace && text.startsWith(" ") ? text.slice(1) : text;
  }
}
