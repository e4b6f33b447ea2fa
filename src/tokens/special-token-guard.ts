// Keeps user text from being read as control tokens: a message that contains "<|im_end|>" must not end its turn.

/**
 * Put inside a guarded token's spelling, so that no added token matches there, and removed before the text is split into words. It is a
 * noncharacter, which Unicode reserves for internal use, so no text to be encoded needs it.
 */
export const GUARD = "\u{FDD0}";

export class SpecialTokenGuard {
  readonly #starts: RegExp | null;

  constructor(specialTokens: readonly string[]) {
    const spellings = specialTokens.filter((token) => token !== "").map((token) => token.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"));
    this.#starts = spellings.length > 0 ? new RegExp(`(?=${spellings.join("|")})[^]`, "gu") : null;
  }

  /** `text` with a guard after the first character of every special token in it. */
  guard(text: string): string {
    const plain = text.replaceAll(GUARD, "");
    return this.#starts ? plain.replace(this.#starts, `$&${GUARD}`) : plain;
  }
}
