// Ends an answer at a stop token or a stop string. Text that may be the start of a stop string is held back.
import { LlmError } from "../errors";
import type { Detokenizer } from "./detokenizer";

/** The token or string that ended the answer. It is not part of the text. */
export type Stop = { readonly type: "token"; readonly id: number } | { readonly type: "string"; readonly text: string };

/** Filters pieces of text up to the first complete stop string. Of several that complete together, the longest counts. */
export class StopStringFilter {
  readonly #strings: readonly string[];
  #held = "";
  #stop: string | null = null;

  /** @throws LlmError "bad-request" for an empty stop string. */
  constructor(strings: readonly string[]) {
    if (strings.includes("")) throw new LlmError("bad-request", "A stop string is empty: expected at least one character.");
    this.#strings = strings;
  }

  /** The stop string that ended the text, or null before that. */
  get stop(): string | null {
    return this.#stop;
  }

  /** The text that is certain: no part of it can belong to a stop string. Empty once stopped. */
  push(text: string): string {
    if (this.#stop !== null) return "";
    const pending = this.#held + text;
    const match = this.#firstMatch(pending);
    if (match) {
      this.#stop = match.text;
      this.#held = "";
      return pending.slice(0, match.start);
    }
    const certain = pending.length - this.#heldLength(pending);
    this.#held = pending.slice(certain);
    return pending.slice(0, certain);
  }

  /** The text held back. The answer ended for another reason, so it is not a stop string. */
  flush(): string {
    const held = this.#held;
    this.#held = "";
    return held;
  }

  #firstMatch(text: string): { start: number; text: string } | null {
    let first: { start: number; text: string } | null = null;
    for (const stop of this.#strings) {
      const start = text.indexOf(stop);
      if (start < 0) continue;
      const difference = first ? start + stop.length - (first.start + first.text.length) : -1;
      if (difference < 0 || (difference === 0 && stop.length > (first?.text.length ?? 0))) first = { start, text: stop };
    }
    return first;
  }

  /** Length of the longest suffix of `text` that is a prefix of a stop string. */
  #heldLength(text: string): number {
    let longest = 0;
    for (const stop of this.#strings) {
      for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
        if (text.endsWith(stop.slice(0, length))) longest = length;
      }
    }
    return longest;
  }
}

export interface AnswerTextOptions {
  readonly detokenizer: Detokenizer;
  readonly stopIds: ReadonlySet<number>;
  readonly stopStrings?: readonly string[];
}

/** Turns sampled ids into the answer's text, up to the first stop. */
export class AnswerText {
  readonly #detokenizer: Detokenizer;
  readonly #stopIds: ReadonlySet<number>;
  readonly #filter: StopStringFilter;
  #stopId: number | null = null;

  /** @throws LlmError "bad-request" for an empty stop string. */
  constructor({ detokenizer, stopIds, stopStrings = [] }: AnswerTextOptions) {
    this.#detokenizer = detokenizer;
    this.#stopIds = stopIds;
    this.#filter = new StopStringFilter(stopStrings);
  }

  /** The stop that ended the answer, or null before that. */
  get stop(): Stop | null {
    if (this.#filter.stop !== null) return { type: "string", text: this.#filter.stop };
    return this.#stopId === null ? null : { type: "token", id: this.#stopId };
  }

  /** The text that became certain; at a stop token, also all text held back. Empty once stopped. */
  push(id: number): string {
    if (this.stop) return "";
    if (!this.#stopIds.has(id)) return this.#filter.push(this.#detokenizer.push(id));
    const text = this.flush();
    if (this.#filter.stop === null) this.#stopId = id;
    return text;
  }

  /** The text held back, when the answer ends without a stop. */
  flush(): string {
    return this.#filter.push(this.#detokenizer.flush()) + this.#filter.flush();
  }
}
