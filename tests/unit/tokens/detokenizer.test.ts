// The detokenising stream compared with decoding all bytes at once, on texts and ids that split characters across tokens.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Tokenizer } from "../../../src/tokens/tokenizer";
import { bytePairJson, sentencePieceMetadata } from "./golden-tokens";

const byteLevel = await Tokenizer.fromJson({ tokenizer: bytePairJson() });
const byteFallback = await Tokenizer.fromGguf(sentencePieceMetadata());
const TOKENIZERS = [
  { name: "byte level", tokenizer: byteLevel, dropsFirstSpace: false },
  { name: "byte fallback", tokenizer: byteFallback, dropsFirstSpace: true },
];

const hardText = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        "🙂",
        "👩‍👩‍👧",
        "🇫🇷",
        "日本",
        "乲",
        "e\u0301",
        "가",
        "naïve",
        " ",
        "  ",
        "\n",
        "�",
        "\ufeff",
        "the ship",
        "<|im_end|>",
      ),
      fc.string({ unit: "grapheme", maxLength: 6 }),
    ),
    { maxLength: 12 },
  )
  .map((parts) => parts.join(""));

describe.each(TOKENIZERS)("$name", ({ tokenizer, dropsFirstSpace }) => {
  const randomIds = fc.array(fc.nat({ max: tokenizer.vocabSize + 2 }), { maxLength: 40 }); // two past the vocabulary: spare rows

  function streamed(ids: readonly number[], skipSpecialTokens: boolean) {
    const stream = tokenizer.detokenizer({ skipSpecialTokens });
    return { pushes: ids.map((id) => stream.push(id)), flushed: stream.flush() };
  }

  /** Joins all bytes first, then decodes UTF-8 at once. */
  function decodedAtOnce(ids: readonly number[], skipSpecialTokens: boolean): string {
    const shown = ids.filter((id) => !skipSpecialTokens || !tokenizer.specialIds.has(id));
    const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(
      Uint8Array.from(shown.flatMap((id) => [...tokenizer.tokenBytes(id)])),
    );
    return dropsFirstSpace && text.startsWith(" ") ? text.slice(1) : text;
  }

  test("the pushes and the flush, joined, equal decoding all ids at once", () => {
    fc.assert(
      fc.property(randomIds, fc.boolean(), (ids, skipSpecialTokens) => {
        const { pushes, flushed } = streamed(ids, skipSpecialTokens);
        expect(pushes.join("") + flushed).toBe(decodedAtOnce(ids, skipSpecialTokens));
        expect(tokenizer.decode(ids, { skipSpecialTokens })).toBe(pushes.join("") + flushed);
      }),
      { numRuns: 300 },
    );
  });

  // SentencePiece writes U+2581 for a space, and so cannot tell the two apart (decision 4): the test below has that by name.
  const ownText = dropsFirstSpace ? hardText.map((text) => text.replaceAll("\u2581", "")) : hardText;

  test("a text survives encoding and decoding; each push has whole characters, and at most three bytes are pending", () => {
    fc.assert(
      fc.property(ownText, (text) => {
        const stream = tokenizer.detokenizer({ skipSpecialTokens: false });
        let shown = "";
        let pushedBytes = dropsFirstSpace && text !== "" ? -1 : 0; // the space in front is no part of the text
        for (const id of tokenizer.encode(text, { addSpecialTokens: false })) {
          const push = stream.push(id);
          shown += push;
          pushedBytes += tokenizer.tokenBytes(id).length;
          expect(/[\uD800-\uDFFF]/u.test(push)).toBe(false);
          expect(text.startsWith(shown)).toBe(true);
          expect(pushedBytes - new TextEncoder().encode(shown).length).toBeLessThan(4);
        }
        expect({ shown, flushed: stream.flush() }).toEqual({ shown: text, flushed: "" });
      }),
      { numRuns: 300 },
    );
  });
});

test("U+2581 in a text comes back as a space from SentencePiece, and as itself from byte-level pairs", () => {
  for (const text of ["\u2581", "a\u2581b", "\u2581\u2581"]) {
    const plain = { addSpecialTokens: false };
    expect(byteFallback.decode(byteFallback.encode(text, plain))).toBe(text.replaceAll("\u2581", " "));
    expect(byteFallback.encode(text, plain)).toEqual(byteFallback.encode(text.replaceAll("\u2581", " "), plain));
    expect(byteLevel.decode(byteLevel.encode(text, plain))).toBe(text);
  }
});

describe("a stream", () => {
  test("ends in U+FFFD if its last character is incomplete", () => {
    const ids = byteLevel.encode("乲", { addSpecialTokens: false });
    expect(ids.length).toBeGreaterThan(1);
    const stream = byteLevel.detokenizer();
    expect(ids.slice(0, -1).map((id) => stream.push(id))).toEqual(ids.slice(0, -1).map(() => ""));
    expect(stream.flush()).toBe("�");
  });

  test("joins the halves of a character around a special token that is not shown", () => {
    const [first = -1, ...rest] = byteLevel.encode("乲", { addSpecialTokens: false });
    const [special = -1] = byteLevel.specialIds;
    expect(byteLevel.decode([first, special, ...rest])).toBe("乲");
    expect(byteLevel.decode([first, special, ...rest], { skipSpecialTokens: false })).toContain("�<|endoftext|>");
  });

  test("keeps its leading space if it continues other text", () => {
    const ids = byteFallback.encode("the ship", { addSpecialTokens: false });
    expect(byteFallback.decode(ids)).toBe("the ship");
    expect(byteFallback.decode(ids, { continuesText: true })).toBe(" the ship");
  });

  test("has no text for the model's rows past the vocabulary", () => {
    expect(byteLevel.decode([byteLevel.vocabSize, 1_000_000])).toBe("");
  });
});
