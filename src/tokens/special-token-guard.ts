// Keeps text that people wrote from being read as control tokens: a message that says "<|im_end|>" shall not end its turn.

/**
 * Stands inside a guarded token's spelling, so that no added token matches there, and is taken out before the text is split into
 * words. A noncharacter: Unicode keeps it for use inside a program, so a text that is to be encoded holds none worth keeping.
 */
export const GUARD = "\u{FDD0}";

export class SpecialTokenGuard {
  readonly #starts: RegExp | null;

  constructor(specialTokens: readonly string[]) {
    const spellings = specialTokens.filter((token) => token !== "").map((token) => token.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"));
    this.#starts = spellings.length > 0 ? new RegExp(`(?=${spellings.join("|")})[^]`, "gu") : null;
  }

  /** `text` with a guard after the first character of every special token spelt in it. */
  guard(text: string): string {
    const plain = text.replaceAll(GUARD, "");
    return this.#starts ? plain.replace(this.#starts, `$&${GUARD}`) : plain;
  }
}
