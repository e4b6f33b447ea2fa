// Merges the characters of words into tokens, pair by pair, the earliest learnt merge first. It replaces the library's model, whose JSON keys
// took longer to build than the rest of a vocabulary: docs/decisions/0008-vocabularies-in-slices.md.
import { Model } from "@huggingface/tokenizers";
import { MergeQueue } from "./merge-queue";

export interface BytePairVocabulary {
  /** Token → id, added tokens included. */
  readonly ids: Map<string, number>;
  /** Id → token; a hole for an unused id. */
  readonly tokens: (string | undefined)[];
  /** Left part + separator + right part → rank; lower ranks merge first. */
  readonly ranks: ReadonlyMap<string, number>;
  /** Occurs in no text and in no part. */
  readonly separator: string;
}

export interface BytePairOptions {
  readonly unknown: string | null;
  readonly fusesUnknown: boolean;
  /** Text that is no token falls back to byte tokens like `<0x0A>`, if the vocabulary has them. */
  readonly byteFallback: boolean;
  /** Words that are tokens stay whole, even if no merges produce them. */
  readonly ignoresMerges: boolean;
}

const utf8 = new TextEncoder();
const MAX_KNOWN_WORDS = 10_000; // words repeat: without this cache a text of 6,000 tokens takes twice as long
const MAX_KNOWN_LENGTH = 64; // in UTF-16 units

export class BytePairModel extends Model {
  readonly #vocabulary: BytePairVocabulary;
  readonly #options: BytePairOptions;
  readonly #known = new Map<string, readonly string[]>();

  constructor(vocabulary: BytePairVocabulary, options: BytePairOptions) {
    super({ type: "BPE", vocab: {}, merges: [], ignore_merges: options.ignoresMerges, fuse_unk: options.fusesUnknown });
    this.tokens_to_ids = vocabulary.ids;
    const unknownId = options.unknown === null ? undefined : vocabulary.ids.get(options.unknown);
    if (unknownId !== undefined) this.unk_token_id = unknownId;
    this.#vocabulary = vocabulary;
    this.#options = options;
  }

  encode(words: string[]): string[] {
    const { ids } = this.#vocabulary;
    const tokens: string[] = [];
    for (const word of words) {
      if (this.#options.ignoresMerges && ids.has(word)) tokens.push(word);
      else for (const part of this.#partsOf(word)) tokens.push(...(ids.has(part) ? [part] : this.#spell(part)));
    }
    return tokens;
  }

  #partsOf(word: string): readonly string[] {
    const known = this.#known.get(word);
    if (known) return known;
    const parts = this.#merge(word);
    if (word.length > MAX_KNOWN_LENGTH) return parts;
    if (this.#known.size === MAX_KNOWN_WORDS) this.#known.clear();
    this.#known.set(word, parts);
    return parts;
  }

  /** The parts of a word after all merges. A part is at the index of its first character; the other entries are empty. */
  #merge(word: string): string[] {
    const parts = Array.from(word);
    const previous = parts.map((_, place) => place - 1);
    const next = parts.map((_, place) => place + 1);
    const ranks = parts.map(() => -1); // rank of the pair that begins at each index
    const queue = new MergeQueue();
    const look = (place: number) => {
      const right = parts[next[place] ?? parts.length];
      const rank = right === undefined ? undefined : this.#rank(parts[place] ?? "", right);
      ranks[place] = rank ?? -1;
      if (rank !== undefined) queue.push(rank, place);
    };
    for (let place = 0; place + 1 < parts.length; place++) look(place);
    for (let pair = queue.pop(); pair !== null; pair = queue.pop()) {
      const { rank, place } = pair;
      if (ranks[place] !== rank) continue; // stale: one of the two has merged with another part
      const right = next[place] ?? parts.length;
      const after = next[right] ?? parts.length;
      parts[place] += parts[right] ?? "";
      parts[right] = "";
      ranks[right] = -1;
      next[place] = after;
      if (after < parts.length) previous[after] = place;
      look(place);
      const before = previous[place] ?? -1;
      if (before >= 0) look(before);
    }
    return parts.filter((part) => part !== "");
  }

  #rank(left: string, right: string): number | undefined {
    const { ranks, separator } = this.#vocabulary;
    return ranks.get(left + separator + right);
  }

  /** The tokens for a part that is no token: its byte tokens, those of its characters, the unknown token, or none. */
  #spell(part: string): string[] {
    const { ids } = this.#vocabulary;
    const { byteFallback, unknown } = this.#options;
    if (byteFallback) {
      const bytes = Array.from(utf8.encode(part), (byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
      if (bytes.every((byte) => ids.has(byte))) return bytes;
    }
    const characters = Array.from(part); // several where a merge makes a token that its file calls unused
    if (characters.length > 1) return characters.flatMap((character) => (ids.has(character) ? [character] : this.#spell(character)));
    return unknown === null ? [] : [unknown];
  }
}
