// Stop strings and stop tokens: text shown, text held back, and the end of an answer.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AnswerText, StopStringFilter } from "../../../src/tokens/stop-conditions";
import { Tokenizer } from "../../../src/tokens/tokenizer";
import { expectLlmError } from "../../support/expect-llm-error";
import { bytePairJson } from "./golden-tokens";

function filtered(pieces: readonly string[], strings: readonly string[]) {
  const filter = new StopStringFilter(strings);
  const pushes = pieces.map((piece) => filter.push(piece));
  return { pushes, text: pushes.join("") + filter.flush(), stop: filter.stop };
}

/** Checks character by character for the first complete stop string, the longest of those complete together. */
function expected(text: string, strings: readonly string[]) {
  for (let end = 0; end <= text.length; end++) {
    const complete = strings.filter((stop) => text.slice(0, end).endsWith(stop)).sort((a, b) => b.length - a.length);
    if (complete[0] !== undefined) return { text: text.slice(0, end - complete[0].length), stop: complete[0] };
  }
  return { text, stop: null };
}

describe("stop strings", () => {
  const letters = (minLength: number, maxLength: number) => fc.string({ unit: fc.constantFrom("a", "b", "🙂"), minLength, maxLength });

  test("end the text at the same place however it is split into pieces", () => {
    fc.assert(
      fc.property(fc.array(letters(0, 4), { maxLength: 12 }), fc.array(letters(1, 5), { maxLength: 4 }), (pieces, strings) => {
        const { text, stop } = filtered(pieces, strings);
        expect({ text, stop }).toEqual(expected(pieces.join(""), strings));
      }),
      { numRuns: 2000 },
    );
  });

  test("hold back only text that may become one", () => {
    expect(filtered(["one st", "op tw", "o STO", "P"], ["STOP"])).toEqual({
      pushes: ["one st", "op tw", "o ", ""],
      text: "one stop two ",
      stop: "STOP",
    });
    expect(filtered(["aab", "aac"], ["aabaab"]).pushes).toEqual(["", "aabaac"]);
  });

  test("text held back is shown if the answer ends for another reason", () => {
    expect(filtered(["end\n\nUs"], ["\n\nUser:"])).toEqual({ pushes: ["end"], text: "end\n\nUs", stop: null });
  });

  test("nothing comes after the stop", () => {
    expect(filtered(["a STOP b", "c"], ["STOP"]).pushes).toEqual(["a ", ""]);
  });

  test("an empty one is refused", () =>
    expectLlmError(
      Promise.resolve().then(() => new StopStringFilter(["a", ""])),
      "bad-request",
      "empty",
    ));
});

const tokenizer = await Tokenizer.fromJson({ tokenizer: bytePairJson() });

describe("an answer's text", () => {
  const encode = (text: string) => tokenizer.encode(text, { addSpecialTokens: false });

  function answer(ids: readonly number[], stopStrings: readonly string[] = []) {
    const text = new AnswerText({ detokenizer: tokenizer.detokenizer(), stopIds: tokenizer.stopIds, stopStrings });
    const shown = ids.map((id) => text.push(id)).join("");
    return { text: shown, stop: text.stop, held: text.flush() };
  }

  test("ends at a stop token, which is not part of it", () => {
    const [end = -1] = encode("<|im_end|>");
    expect(answer(encode("Hi!<|im_end|>more"))).toEqual({ text: "Hi!", stop: { type: "token", id: end }, held: "" });
  });

  test("ends at a stop string of several tokens that begins inside another character's token", () => {
    expect(answer(encode("one 🙂🙂 two"), ["🙂 t"])).toEqual({ text: "one 🙂", stop: { type: "string", text: "🙂 t" }, held: "" });
  });

  test("shows at a stop token the text that might have become a stop string", () => {
    expect(answer(encode("a ST<|im_end|>"), ["STOP"]).text).toBe("a ST");
  });

  test("without a stop, the flush returns the text held back", () => {
    expect(answer(encode("a ST"), ["STOP"])).toEqual({ text: "a ", stop: null, held: "ST" });
    expect(answer(encode("乲").slice(0, -1)).held).toBe("�");
  });
});
