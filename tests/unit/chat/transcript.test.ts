// The ids of a conversation: what was read and written stays as it is, whatever ended an answer and however the template writes it.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  endTurn,
  markOf,
  nextPrompt,
  sharedLength,
  type TranscriptCodec,
  type TranscriptMessage,
  type TranscriptTurn,
  turnAt,
} from "../../../src/chat/transcript";
import { LlmError } from "../../../src/errors";
import { GUARD } from "../../../src/tokens/special-token-guard";

// Tokens are the texts below; "�" stands for half a character. Encoding is greedy, so that "ab" is never encoded as "a", "b", as a
// model may well write it: ids that were tokenised again show.
const TOKENS = ["<begin>", "<end>", "<over>", "user:", "bot:", "abc", "ab", "a", "b", "c", "d", " ", "\n", "é", "[half]", "[other half]"];
const STOPS = ["<end>", "<over>"];
const HIDDEN = ["<begin>", ...STOPS];

function id(token: string): number {
  const index = TOKENS.indexOf(token);
  if (index < 0) throw new Error(`no token ${token}`);
  return index;
}

const ids = (...tokens: string[]) => tokens.map(id);
const spell = (all: readonly number[]) => all.map((each) => TOKENS[each]);

function encode(text: string): number[] {
  const all: number[] = [];
  for (let at = 0; at < text.length; ) {
    const token = TOKENS.find((candidate) => text.startsWith(candidate, at));
    if (token === undefined) throw new Error(`no token for ${JSON.stringify(text.slice(at))}`);
    all.push(id(token));
    at += token.length;
  }
  return all;
}

function decode(all: readonly number[]): string {
  const shown = spell(all).filter((token) => token !== undefined && !HIDDEN.includes(token));
  return shown
    .join("")
    .replaceAll("[half][other half]", "é")
    .replaceAll(/\[(other )?half\]/g, "\uFFFD");
}

type Render = TranscriptCodec["render"];

const plainRender: Render = (messages) =>
  `${messages.map(({ role, content }) => `<begin>${role === "user" ? "user:" : "bot:"}${content}<end>`).join("")}<begin>bot:`;

function codecWith(render: Render): TranscriptCodec {
  const stopText = (stop: number) => (STOPS.includes(TOKENS[stop] ?? "") ? (TOKENS[stop] ?? null) : null);
  return { render, encode, encodeMore: encode, decode, stopText };
}

const codec = codecWith(plainRender);
const user = (content: string): TranscriptMessage => ({ role: "user", content });
const bot = (content: string): TranscriptMessage => ({ role: "assistant", content });

/** A first turn: what `answerIds` leave of it where the answer is `answer`. */
function firstTurn(answerIds: readonly number[], answer: string, used = codec): TranscriptTurn {
  return endTurn(used, nextPrompt(used, [user("a")], null), answerIds, answer);
}

const PROMPT = ids("<begin>", "user:", "a", "<end>", "<begin>", "bot:");
const SECOND_USER = ids("<begin>", "user:", "b", "<end>", "<begin>", "bot:");

/** The second prompt after that turn. */
function secondPrompt(turn: TranscriptTurn, answer: string, used = codec) {
  return nextPrompt(used, [user("a"), bot(answer), user("b")], turn);
}

describe("the next prompt", () => {
  test("keeps the ids that the model wrote, though encoding their text gives others", () => {
    const turn = firstTurn(ids("a", "b", "<end>"), "ab");
    expect(secondPrompt(turn, "ab")).toEqual({
      ids: [...PROMPT, ...ids("a", "b", "<end>"), ...SECOND_USER],
      text: "<begin>user:a<end><begin>bot:ab<end><begin>user:b<end><begin>bot:",
      isContinued: true,
    });
  });

  test("writes the stop token that a cut answer lacks", () => {
    const turn = firstTurn(ids("a", "b"), "ab");
    expect(spell(secondPrompt(turn, "ab").ids)).toEqual(spell([...PROMPT, ...ids("a", "b", "<end>"), ...SECOND_USER]));
  });

  test("writes the template's stop token in place of another that the model chose", () => {
    const turn = firstTurn(ids("a", "b", "<over>"), "ab");
    expect(spell(secondPrompt(turn, "ab").ids)).toEqual(spell([...PROMPT, ...ids("a", "b", "<end>"), ...SECOND_USER]));
  });

  test("takes the prompt's last token for no stop token of an answer that is empty", () => {
    const used = codecWith((messages) => messages.map(({ content }) => `${content}<end>`).join(""));
    const turn = firstTurn([], "", used);
    expect(spell(turn.ids)).toEqual(["a", "<end>"]);
    expect(spell(secondPrompt(turn, "", used).ids)).toEqual(["a", "<end>", "<end>", "b", "<end>"]);
  });

  test("of a conversation that goes on from given messages is all encoded, once", () => {
    const prompt = nextPrompt(codec, [user("a"), bot("ab"), user("b")], null);
    expect(prompt.isContinued).toBe(true);
    expect(spell(prompt.ids)).toEqual(spell([...PROMPT, ...ids("ab", "<end>"), ...SECOND_USER]));
  });

  test("goes on after an answer that the template trims", () => {
    const used = codecWith((messages) => plainRender(messages.map(({ role, content }) => ({ role, content: content.trim() }))));
    const turn = firstTurn(ids("\n", "a", "b", " ", "<end>"), "\nab ", used);
    const prompt = secondPrompt(turn, "\nab ", used);
    expect(prompt.isContinued).toBe(true);
    expect(spell(prompt.ids)).toEqual(spell([...PROMPT, ...ids("\n", "a", "b", " ", "<end>"), ...SECOND_USER]));
  });

  test("goes on after an answer in which a control token's spelling is guarded", () => {
    const used = codecWith((messages) =>
      plainRender(messages.map(({ role, content }) => ({ role, content: content.replace("b", `b${GUARD}`) }))),
    );
    const turn = firstTurn(ids("a", "b", "c", "<end>"), "abc", used);
    const prompt = nextPrompt(used, [user("a"), bot("abc"), user("c")], turn);
    expect(prompt.isContinued).toBe(true);
  });

  test.each<[string, Render]>([
    [
      "takes earlier answers' reasoning out",
      (messages) => plainRender(messages.map((m, i) => (i === 1 ? { ...m, content: m.content.replace("a", "") } : m))),
    ],
    ["changes what stands before", (messages) => `${"a".repeat(messages.length)}${plainRender(messages)}`],
    ["shows only the last message", (messages) => plainRender(messages.slice(-1))],
    ["writes an answer twice", (messages) => plainRender(messages.flatMap((m) => (m.role === "assistant" ? [m, m] : [m])))],
  ])("is encoded anew, and says so, where the template %s", (_, render) => {
    const used = codecWith(render);
    const turn = firstTurn(ids("a", "b", "<end>"), "ab", used);
    const prompt = secondPrompt(turn, "ab", used);
    expect(prompt.isContinued).toBe(false);
    expect(prompt.ids).toEqual(encode(render([user("a"), bot("ab"), user("b")])));
  });
});

describe("the end of a turn", () => {
  test.each([
    { name: "a stop string that begins with a token", answerIds: ids("a", "b", "c", "d"), answer: "ab", kept: ids("a", "b"), tail: "" },
    { name: "a stop string that begins within a token", answerIds: ids("d", "abc", "d"), answer: "dab", kept: ids("d"), tail: "ab" },
    { name: "a stop string at the answer's start", answerIds: ids("abc"), answer: "", kept: [], tail: "" },
    { name: "a stop string that the stop token completed", answerIds: ids("a", "b", "<end>"), answer: "a", kept: ids("a"), tail: "" },
    { name: "an abort within a character", answerIds: ids("a", "[half]"), answer: "a", kept: ids("a"), tail: "" },
    { name: "an abort while text was held back", answerIds: ids("a", "b", "c"), answer: "a", kept: ids("a"), tail: "" },
  ])("keeps no token of what the answer does not say: $name", ({ answerIds, answer, kept, tail }) => {
    const turn = firstTurn(answerIds, answer);
    expect(spell(turn.ids)).toEqual(spell([...PROMPT, ...kept]));
    expect({ tail: turn.tail, stopId: turn.stopId }).toEqual({ tail, stopId: null });
    const said = [...kept, ...encode(tail)];
    expect(spell(secondPrompt(turn, answer).ids)).toEqual(spell([...PROMPT, ...said, ...ids("<end>"), ...SECOND_USER]));
  });

  test("keeps a character that was never finished where the answer shows it", () => {
    const turn = firstTurn(ids("a", "[half]", "<end>"), "a\uFFFD");
    expect(spell(turn.ids)).toEqual(spell([...PROMPT, ...ids("a", "[half]", "<end>")]));
    expect(turn.stopId).toBe(id("<end>"));
  });

  test("kept ids and tail read what the answer says, wherever it is cut", () => {
    const token = fc.constantFrom(...TOKENS.filter((each) => !STOPS.includes(each)));
    fc.assert(
      fc.property(fc.array(token), fc.nat(), (tokens, cut) => {
        const answerIds = ids(...tokens);
        const whole = decode(answerIds);
        const answer = whole.slice(0, cut % (whole.length + 1));
        const { ids: all, tail } = firstTurn(answerIds, answer);
        const kept = all.slice(PROMPT.length);
        expect(answerIds.slice(0, kept.length)).toEqual(kept);
        expect(decode(kept) + tail).toBe(answer);
        const oneMore = decode(answerIds.slice(0, kept.length + 1));
        if (kept.length < answerIds.length) expect(answer.startsWith(oneMore)).toBe(false);
      }),
    );
  });
});

describe("an earlier turn", () => {
  const answers: readonly (readonly [name: string, answerIds: readonly number[], answer: string])[] = [
    ["that the model ended", ids("a", "b", "<end>"), "ab"],
    ["that ended with another stop token than the template's", ids("a", "b", "<over>"), "ab"],
    ["that was cut", ids("a", "b"), "ab"],
    ["that was cut within a token", ids("abc"), "ab"],
    ["that is empty", [], ""],
  ];

  test.each(answers)("%s is found in a later one, and the same goes on from it", (_, answerIds, answer) => {
    const first = firstTurn(answerIds, answer);
    const mark = markOf(first, 2);
    const prompt = secondPrompt(first, answer);
    const second = endTurn(codec, prompt, ids("c", "<end>"), "c");
    const found = turnAt(second, mark);
    expect(found.promptText).toBe(first.promptText);
    expect(spell(secondPrompt(found, answer).ids)).toEqual(spell(prompt.ids));
    expect(secondPrompt(found, answer).isContinued).toBe(true);
  });

  test("is the latest one where nothing followed", () => {
    const turn = firstTurn(ids("a", "<over>"), "a");
    expect(turnAt(turn, markOf(turn, 2))).toEqual(turn);
  });
});

describe("tokens that stay whatever is asked", () => {
  const tokens = encode(plainRender([bot("abc"), user("a")]));

  test("end where the question begins", () => {
    expect(spell(tokens.slice(0, sharedLength(codec, [bot("abc")], tokens)))).toEqual([
      "<begin>",
      "bot:",
      "abc",
      "<end>",
      "<begin>",
      "user:",
    ]);
  });

  test("end where those that there are differ", () => {
    expect(sharedLength(codec, [bot("abd")], tokens)).toBe(2);
    expect(sharedLength(codec, [bot("abc")], tokens.slice(0, 3))).toBe(3);
  });

  test("are none where the template refuses a question", () => {
    const refusing = codecWith(() => {
      throw new LlmError("bad-request", "no");
    });
    expect(sharedLength(refusing, [bot("abc")], tokens)).toBe(0);
  });
});
