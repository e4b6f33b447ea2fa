// The order of merges, compared with repeatedly trying every pair of a word.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BytePairModel, type BytePairOptions } from "../../../src/tokens/byte-pair-model";

const OPTIONS: BytePairOptions = { unknown: null, fusesUnknown: false, byteFallback: false, ignoresMerges: false };

function modelOf(merges: readonly string[], { extra = [], ...options }: Partial<BytePairOptions> & { extra?: readonly string[] } = {}) {
  const tokens = [...new Set([..."abc🙂", ...extra, ...merges.map((merge) => merge.replace(" ", ""))])];
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const ranks = new Map(merges.map((merge, rank) => [merge, rank]));
  return new BytePairModel({ ids, tokens, ranks, separator: " " }, { ...OPTIONS, ...options });
}

/** Joins the leftmost pair of the lowest rank until none is left. */
function mergedOneByOne(word: string, merges: readonly string[]): string[] {
  const parts = Array.from(word);
  for (;;) {
    const ranks = parts.slice(1).map((right, index) => merges.lastIndexOf(`${parts[index]} ${right}`));
    const lowest = Math.min(...ranks.filter((rank) => rank >= 0));
    const at = ranks.indexOf(lowest);
    if (at < 0) return parts;
    parts.splice(at, 2, `${parts[at]}${parts[at + 1]}`);
  }
}

describe("a word", () => {
  const part = fc.string({ unit: fc.constantFrom("a", "b", "c", "🙂"), minLength: 1, maxLength: 3 });
  const merge = fc.tuple(part, part).map((pair) => pair.join(" "));
  const word = fc.string({ unit: fc.constantFrom("a", "b", "c", "🙂"), maxLength: 24 });

  test("merges like joining the leftmost pair of the lowest rank until none is left", () => {
    fc.assert(
      fc.property(fc.array(merge, { maxLength: 40 }), word, (merges, text) => {
        const model = modelOf(merges);
        const expected = mergedOneByOne(text, merges);
        expect(model.encode([text])).toEqual(expected);
        expect(model.encode([text, text])).toEqual([...expected, ...expected]); // from what it knows by now
      }),
      { numRuns: 1000 },
    );
  });

  test("of 100,000 characters is merged within the test's time limit", () => {
    const tokens = modelOf(["a b", "ab ab"]).encode(["ab".repeat(50_000)]);
    expect(tokens).toHaveLength(25_000);
  });

  test("that is a token stays whole only if merges are ignored", () => {
    expect(modelOf([], { extra: ["abc"], ignoresMerges: true }).encode(["abc", "ab"])).toEqual(["abc", "a", "b"]);
    expect(modelOf([], { extra: ["abc"] }).encode(["abc"])).toEqual(["a", "b", "c"]);
  });
});

describe("text that is no token", () => {
  const bytes = ["<0xC3>", "<0xA9>"];

  test("becomes bytes if the vocabulary has all of them, otherwise the unknown token, otherwise nothing", () => {
    expect(modelOf([], { extra: bytes, byteFallback: true }).encode(["aé"])).toEqual(["a", ...bytes]);
    expect(modelOf([], { extra: ["<0xC3>", "?"], byteFallback: true, unknown: "?" }).encode(["aé"])).toEqual(["a", "?"]);
    expect(modelOf([], { extra: bytes }).encode(["aé"])).toEqual(["a"]);
  });
});
