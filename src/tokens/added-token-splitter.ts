// Finds added tokens in a text in the order of Hugging Face's Rust library: those that are not normalized first, in the whole text, then the
// others in what is left. The library that splits words finds all in one pass, and loses a token of white space beside one that strips.
import type { AddedToken } from "./tokenizer-json";

/** A run of text, or the id of an added token in its place. */
export type TextPart = { readonly text: string; readonly id?: undefined } | { readonly text?: undefined; readonly id: number };

// As Unicode and Rust have it: with U+0085, without U+FEFF.
const SPACE = "[\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";
const SPACE_BEFORE = new RegExp(`${SPACE}*$`);
const SPACE_AFTER = new RegExp(`^${SPACE}*`);

interface Found {
  readonly tokens: ReadonlyMap<string, AddedToken>;
  /** Null where there are none. */
  readonly pattern: RegExp | null;
}

export class AddedTokenSplitter {
  readonly #plain: Found;
  readonly #normalized: Found;
  readonly #normalize: (text: string) => string;

  /** `normalize` is what the vocabulary does to texts before it splits them. */
  constructor(tokens: readonly AddedToken[], normalize: (text: string) => string) {
    this.#normalize = normalize;
    this.#plain = patternOf(tokens.filter((token) => !token.normalized).map((token) => [token.content, token]));
    this.#normalized = patternOf(tokens.filter((token) => token.normalized).map((token) => [normalize(token.content), token]));
  }

  /** The parts of `text` in order, runs of text normalized. */
  split(text: string): TextPart[] {
    return splitBy(this.#plain, text).flatMap((part) => {
      if (part.text === undefined) return [part];
      const normal = this.#normalize(part.text);
      return normal === "" ? [] : splitBy(this.#normalized, normal);
    });
  }
}

function patternOf(spelled: readonly (readonly [string, AddedToken])[]): Found {
  const tokens = new Map(spelled.filter(([spelling]) => spelling !== ""));
  // Of several that match at one place, the longest.
  const spellings = [...tokens.keys()].sort((a, b) => b.length - a.length);
  const escaped = spellings.map((spelling) => spelling.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"));
  return { tokens, pattern: escaped.length > 0 ? new RegExp(escaped.join("|"), "gu") : null };
}

function splitBy({ tokens, pattern }: Found, text: string): TextPart[] {
  if (pattern === null) return [{ text }];
  const parts: TextPart[] = [];
  let end = 0; // of what is in `parts`
  for (const match of text.matchAll(pattern)) {
    const token = tokens.get(match[0]);
    if (token === undefined) continue;
    let start = match.index;
    let stop = start + match[0].length;
    // White space that the token before has taken is not there to be taken again, but a token that lies in it is found.
    if (token.lstrip) start = Math.max(end, start - (SPACE_BEFORE.exec(text.slice(end, start))?.[0].length ?? 0));
    if (token.rstrip) stop += SPACE_AFTER.exec(text.slice(stop))?.[0].length ?? 0;
    if (end < start) parts.push({ text: text.slice(end, start) });
    parts.push({ id: token.id });
    end = stop;
  }
  if (end < text.length) parts.push({ text: text.slice(end) });
  return parts;
}
