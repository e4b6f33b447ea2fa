// Added tokens that overlap or strip white space: ids recorded with Hugging Face's Rust library (tokenizers 0.23.3).
import { describe, expect, test } from "vitest";
import { AddedTokenSplitter } from "../../../src/tokens/added-token-splitter";
import { Tokenizer } from "../../../src/tokens/tokenizer";
import { needsFiles } from "../../support/needed-files";
import { readTestJson } from "../../support/test-files";

const token = (id: number, content: string, flags: object = {}) => ({
  ...{ id, content, special: false, normalized: false, lstrip: false, rstrip: false },
  ...flags,
});
const parts = (splitter: AddedTokenSplitter, text: string) => splitter.split(text).map((part) => part.text ?? part.id);

describe("added tokens", () => {
  test("that are not normalized are found first, in the whole text", () => {
    const splitter = new AddedTokenSplitter([token(1, "[MASK]", { normalized: true }), token(2, "ASK]")], (text) => text);
    expect(parts(splitter, "a[MASK]b")).toEqual(["a[M", 2, "b"]);
  });

  test("that strip leave white space that is a token", () => {
    const splitter = new AddedTokenSplitter([token(1, "<x>", { rstrip: true, lstrip: true }), token(2, "\n\n")], (text) => text);
    expect(parts(splitter, "a<x>\n\nb")).toEqual(["a", 1, 2, "b"]);
    expect(parts(splitter, "a\n\n<x> b")).toEqual(["a", 2, 1, "b"]);
    expect(parts(splitter, "a \t<x> \u{85}b<x>")).toEqual(["a", 1, "b", 1]);
  });

  test("match the longest spelling, and the normalized ones in normalized text", () => {
    const lower = (text: string) => text.toLowerCase();
    const splitter = new AddedTokenSplitter([token(1, "<A>", { normalized: true }), token(2, "<<"), token(3, "<<B")], lower);
    expect(parts(splitter, "X<a>Y<<B<<A>")).toEqual(["x", 1, "y", 3, 2, "a>"]);
  });
});

const CASE = "../shared/faults/field/25-overlapping-added-tokens";
test("the recorded texts have the recorded ids", await needsFiles(`${CASE}/tokenizer.json`, `${CASE}/expected.json`), async () => {
  const tokenizer = await Tokenizer.fromJson({ tokenizer: await readTestJson(`${CASE}/tokenizer.json`) });
  for (const [text, ids] of Object.entries(await readTestJson<Record<string, number[]>>(`${CASE}/expected.json`)))
    expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(ids);
});
