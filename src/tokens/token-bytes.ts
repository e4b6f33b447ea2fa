// The text bytes of one token, decoded from its spelling in the vocabulary. Knows no stream of tokens.
import { quoted } from "../quoted";
import { flattenSteps, prependScheme, type Step, unsupported } from "./tokenizer-json";

/** How a vocabulary spells text: GPT-2's alphabet of 256 printable characters, or SentencePiece's plain text with ▁ as space. */
export type Decoding =
  | { readonly kind: "byte-level" }
  | {
      readonly kind: "sentencepiece";
      /** Tokens like `<0x0A>` are single bytes. */
      readonly byteFallback: boolean;
      /** The encoder adds a space before every text, so the first space is not part of the text. */
      readonly dropsFirstSpace: boolean;
    };

const SPACE_MARK = "▁";
const NO_BYTES = new Uint8Array();
const utf8 = new TextEncoder();

/** The spelling that a tokenizer.json's `decoder` undoes. @throws LlmError "unsupported" for any other decoder. */
export function readDecoder(decoder: Step | null): Decoding {
  const steps = decoder ? flattenSteps(decoder, "decoders") : [];
  const has = (type: string) => steps.some((step) => step.type === type);
  if (steps.length === 1 && has("ByteLevel")) return { kind: "byte-level" };
  const metaspace = steps.find((step) => step.type === "Metaspace");
  const marksSpaces = metaspace !== undefined || has("Replace");
  if (!marksSpaces || !steps.every(isSentencePieceStep)) {
    const expected = "ByteLevel, Metaspace, or SentencePiece's Replace, ByteFallback, Fuse, Strip";
    throw unsupported(`the decoder is ${quoted(decoder)}, expected ${expected}`);
  }
  const dropsFirstSpace = has("Strip") || (metaspace !== undefined && prependScheme(metaspace) !== "never");
  return { kind: "sentencepiece", byteFallback: has("ByteFallback"), dropsFirstSpace };
}

function isSentencePieceStep({ type, pattern, content, start, stop, replacement }: Step, index: number, steps: readonly Step[]): boolean {
  switch (type) {
    case "ByteFallback":
    case "Fuse":
      return true;
    case "Metaspace":
      return (replacement ?? SPACE_MARK) === SPACE_MARK;
    case "Replace":
      return (pattern as { String?: unknown } | undefined)?.String === SPACE_MARK && content === " ";
    case "Strip": // applies to the whole text, which Fuse has made one piece; without Fuse it would strip every token
      return content === " " && start === 1 && stop === 0 && steps.slice(0, index).some((earlier) => earlier.type === "Fuse");
    default:
      return false;
  }
}

export interface TokenSpelling {
  readonly decoding: Decoding;
  /** The token's spelling; undefined for an id without a token. */
  readonly tokenOf: (id: number) => string | undefined;
  /** Tokens outside the alphabet, whose spelling is their text. */
  readonly addedIds: ReadonlySet<number>;
}

/** The text bytes of token `id`, possibly part of a character. Empty for an id without a token (a model may have spare rows). */
export function tokenBytes(id: number, { decoding, tokenOf, addedIds }: TokenSpelling): Uint8Array {
  const token = tokenOf(id);
  if (token === undefined) return NO_BYTES;
  const isAdded = addedIds.has(id);
  if (decoding.kind === "byte-level") return (isAdded ? null : fromByteAlphabet(token)) ?? utf8.encode(token);
  const byte = decoding.byteFallback && !isAdded ? fallbackByte(token) : null;
  return byte === null ? utf8.encode(token.replaceAll(SPACE_MARK, " ")) : Uint8Array.of(byte);
}

/** The byte of a token like `<0x0A>`, or null. */
function fallbackByte(token: string): number | null {
  return /^<0x[0-9A-Fa-f]{2}>$/.test(token) ? Number.parseInt(token.slice(3, 5), 16) : null;
}

/** The bytes of the characters, or null if one of them is not in GPT-2's alphabet. */
function fromByteAlphabet(token: string): Uint8Array | null {
  const bytes = new Uint8Array(token.length);
  for (let at = 0; at < token.length; at++) {
    const byte = BYTE_OF_CHARACTER[token.charCodeAt(at)] ?? -1;
    if (byte < 0) return null;
    bytes[at] = byte;
  }
  return bytes;
}

/** Code unit → byte, or -1. Printable Latin-1 represents itself; the other 68 bytes have the code points from 256 on. */
const BYTE_OF_CHARACTER = (() => {
  const table = new Int16Array(256 + 68).fill(-1);
  let moved = 256;
  for (let byte = 0; byte < 256; byte++) {
    const isPrintable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    table[isPrintable ? byte : moved++] = byte;
  }
  return table;
})();

/** Whether a token is a single byte. Together, these tokens can spell any text. */
export function isByteToken(id: number, { decoding, tokenOf, addedIds }: TokenSpelling): boolean {
  const token = tokenOf(id);
  if (token === undefined || addedIds.has(id)) return false;
  return decoding.kind === "byte-level" ? token.length === 1 : decoding.byteFallback && fallbackByte(token) !== null;
}

// All of Llama 2's; of Gemma's some 30,000, most of them ideographs, the lowest code points: alphabets, punctuation, signs.
const MAX_CHARACTERS = 4096;

/**
 * The tokens that are one character. SentencePiece lists them after all longer pieces, although they are among the most frequent; in a byte-level
 * vocabulary the most frequent are bytes or come early, so none are returned.
 */
export function singleCharacterIds(vocabSize: number, { decoding, tokenOf }: TokenSpelling): number[] {
  if (decoding.kind === "byte-level") return [];
  const found: { readonly id: number; readonly code: number }[] = [];
  for (let id = 0; id < vocabSize; id++) {
    const token = tokenOf(id);
    const code = token?.codePointAt(0);
    if (token !== undefined && code !== undefined && token.length === (code > 0xffff ? 2 : 1)) found.push({ id, code });
  }
  return found
    .sort((a, b) => a.code - b.code)
    .slice(0, MAX_CHARACTERS)
    .map(({ id }) => id);
}
