// Conversations: each turn adds to the ids that there are, whatever ended the one before, and however many share the engine.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type AnswerOptions,
  type AnswerSummary,
  type Chat,
  type Engine,
  type EngineEvent,
  type LoadOptions,
  loadEngine,
} from "../../src/index";
import { expectLlmError } from "../support/expect-llm-error";
import { sharingEngine } from "../support/test-model";
import { END_ID, REWRITING_TEMPLATE, SPECIAL_IDS, textAfterAnswer, tinyChatFiles } from "../support/tiny-chat-model";

/** Greedy, and never a control token. */
const PLAIN = { temperature: 0, logitBias: new Map(SPECIAL_IDS.map((id) => [id, Number.NEGATIVE_INFINITY])), maxTokens: 16 };
/** Ends at once. */
const SILENT = { temperature: 0, logitBias: new Map([[END_ID, 1000]]) };

let engine: Engine;

beforeAll(async () => {
  engine = await load();
});
afterAll(() => engine.dispose());

async function load(options: LoadOptions = {}, template?: string): Promise<Engine> {
  const shareDeviceWith = await sharingEngine();
  return loadEngine(await tinyChatFiles(template), {
    shareDeviceWith,
    contextLength: 256,
    poolLength: 1024,
    chunkRows: 72,
    prefixCache: false,
    ...options,
  });
}

function encode(text: string): number[] {
  return engine.tokenizer.encode(text, { addSpecialTokens: false });
}

/** The ids that follow, computed with nothing cached. */
async function idsAfter(prompt: readonly number[], options = PLAIN): Promise<readonly number[]> {
  return (await engine.generateIds(prompt, options)).ids;
}

async function textAfter(prompt: readonly number[], options = PLAIN): Promise<string> {
  return engine.tokenizer.decode(await idsAfter(prompt, options));
}

function promptIds(message: string): number[] {
  return encode(engine.tokenizer.renderChat([{ role: "user", content: message }]));
}

/** A first turn that is known to the token. */
async function firstTurn(message: string) {
  const prompt = promptIds(message);
  const ids = await idsAfter(prompt);
  return { prompt, ids, text: engine.tokenizer.decode(ids) };
}

function say(chat: Chat, message: string, options: AnswerOptions = PLAIN): Promise<AnswerSummary> {
  return chat.send(message, options).finished;
}

describe("the second turn", () => {
  test("goes on from the ids that the first one wrote, and prefills only what is new", async () => {
    using chat = engine.createChat();
    const { prompt, ids, text } = await firstTurn("hello");
    const first = await say(chat, "hello");
    expect(first).toMatchObject({
      text,
      finishReason: "length",
      cachedTokens: 0,
      prefillTokens: prompt.length,
      generatedTokens: ids.length,
    });
    expect(encode(text)).not.toEqual(ids); // else nobody could tell
    expect(chat.tokenCount).toBe(prompt.length + ids.length);
    const next = [...prompt, ...ids, ...encode(textAfterAnswer("go on"))];
    const second = await say(chat, "go on");
    // The last token of the first answer has not run yet.
    const cachedTokens = prompt.length + ids.length - 1;
    expect(second).toMatchObject({ text: await textAfter(next), cachedTokens, prefillTokens: next.length - cachedTokens });
    expect(chat.messages.map(({ role, content }) => [role, content])).toEqual([
      ["user", "hello"],
      ["assistant", text],
      ["user", "go on"],
      ["assistant", second.text],
    ]);
  });

  test("after an answer that the model ended itself has its stop token once", async () => {
    using chat = engine.createChat();
    expect(await say(chat, "hello", SILENT)).toMatchObject({ text: "", finishReason: "stop", generatedTokens: 1 });
    const next = [...promptIds("hello"), ...encode(textAfterAnswer("go on"))];
    expect(await say(chat, "go on")).toMatchObject({ text: await textAfter(next), cachedTokens: promptIds("hello").length });
  });

  test("after an abort has what was said until then, and its K/V", async () => {
    using chat = engine.createChat();
    const { prompt, ids } = await firstTurn("hello");
    const abort = new AbortController();
    const reason = new Error("enough");
    let seen = 0;
    const answer = chat.send("hello", { ...PLAIN, maxTokens: 200, signal: abort.signal });
    const reading = (async () => {
      for await (const _ of answer) if (++seen === 3) abort.abort(reason);
    })();
    await expect(reading).rejects.toBe(reason);
    await expect(answer.finished).rejects.toBe(reason);
    const said = chat.messages.at(-1)?.content ?? "";
    const count = ids.findIndex((_, index) => engine.tokenizer.decode(ids.slice(0, index)) === said);
    expect(count).toBeGreaterThanOrEqual(3);
    expect(chat.tokenCount).toBe(prompt.length + count);
    const next = [...prompt, ...ids.slice(0, count), ...encode(textAfterAnswer("go on"))];
    const second = await say(chat, "go on");
    expect(second.text).toBe(await textAfter(next));
    expect(second.cachedTokens).toBeGreaterThanOrEqual(prompt.length + count - 1);
  });

  test("after a reader that left has what was said until then", async () => {
    using chat = engine.createChat();
    const answer = chat.send("hello", { ...PLAIN, maxTokens: 200 });
    for await (const _ of answer) break;
    await expect(answer.finished).rejects.toMatchObject({ name: "AbortError" });
    expect(chat.messages).toHaveLength(2);
    expect((await say(chat, "go on")).cachedTokens).toBeGreaterThanOrEqual(promptIds("hello").length);
  });

  test("after an abort before the first token is the first", async () => {
    using chat = engine.createChat();
    for (let round = 0; round < 2; round++) {
      const abort = new AbortController();
      const answer = chat.send("word ".repeat(20), { ...PLAIN, signal: abort.signal });
      const failed = expect(answer.finished).rejects.toMatchObject({ name: "AbortError" });
      await Promise.resolve();
      abort.abort();
      await failed;
      expect(chat.messages).toEqual([]);
      expect(chat.tokenCount).toBe(0);
    }
    expect((await say(chat, "hello")).text).toBe((await firstTurn("hello")).text);
    expect(chat.messages).toHaveLength(2);
  });

  test.each(["within a token", "with a token"])("after a stop string that begins %s has none of it", async (place) => {
    using chat = engine.createChat();
    const { prompt, ids, text } = await firstTurn("hello");
    const pieces = ids.map((id) => engine.tokenizer.decode([id]));
    const start = (index: number) => pieces.slice(0, index).join("").length;
    const inside = place === "within a token" ? 1 : 0;
    // Three characters that the answer has there first.
    const stopAt = (index: number) => text.slice(start(index) + inside, start(index) + inside + 3);
    const count = pieces.findIndex(
      (piece, index) => index > 3 && piece.length === 2 && text.indexOf(stopAt(index)) === start(index) + inside,
    );
    expect(count).toBeGreaterThan(3);
    const said = text.slice(0, start(count) + inside);
    const first = await say(chat, "hello", { ...PLAIN, stop: [stopAt(count)] });
    expect(first).toMatchObject({ text: said, finishReason: "stop" });
    expect(first.generatedTokens).toBeGreaterThan(count);
    expect(chat.tokenCount).toBe(prompt.length + count);
    const tail = said.slice(start(count));
    const next = [...prompt, ...ids.slice(0, count), ...encode(tail + textAfterAnswer("go on"))];
    expect(await say(chat, "go on")).toMatchObject({ text: await textAfter(next), cachedTokens: prompt.length + count });
  });

  test("of a template that rewrites answers is encoded anew, and an event says so", async () => {
    const events: EngineEvent[] = [];
    using rewriting = await load({ onEvent: (event) => events.push(event) }, REWRITING_TEMPLATE);
    using chat = rewriting.createChat();
    const { text } = await say(chat, "hello");
    events.length = 0;
    const second = await say(chat, "go on");
    const next = encode(rewriting.tokenizer.renderChat(chat.messages.slice(0, 3)));
    expect(engine.tokenizer.decode(next)).toContain(text.toUpperCase());
    expect(second.text).toBe(await textAfter(next));
    expect(events).toEqual([{ type: "transcript-rewritten", keptTokens: second.cachedTokens, promptTokens: next.length }]);
    expect(second.cachedTokens).toBeGreaterThanOrEqual(promptIds("hello").length);
  });

  test("comes after a message that the template refused as if that had never been said", async () => {
    using chat = engine.createChat();
    using other = engine.createChat();
    for (const each of [chat, other]) await say(each, "hello");
    await expectLlmError(say(chat, "refuse"), "bad-request", "refuses");
    expect(await say(chat, "go on")).toMatchObject({ text: (await say(other, "go on")).text });
    expect(chat.messages).toEqual(other.messages);
  });
});

describe("a chat that is cut back", () => {
  test("keeps the K/V of what stays, and answers an edited question as if the other had never been asked", async () => {
    using chat = engine.createChat();
    using other = engine.createChat();
    for (const each of [chat, other]) await say(each, "hello");
    await say(chat, "go on");
    await say(chat, "and on");
    await chat.truncate(2);
    expect(chat.messages).toEqual(other.messages);
    expect(chat.tokenCount).toBe(other.tokenCount);
    const expected = await say(other, "what now");
    const { text, cachedTokens, prefillTokens } = await say(chat, "what now");
    expect(text).toBe(expected.text);
    // It has run the last token of the first answer, which the other chat runs now.
    expect(cachedTokens).toBeGreaterThanOrEqual(expected.cachedTokens);
    expect(cachedTokens + prefillTokens).toBe(expected.cachedTokens + expected.prefillTokens);
    expect(chat.messages).toEqual(other.messages);
  });

  test("keeps the K/V of its system message when its first question is edited", async () => {
    using chat = engine.createChat({ system: "be brief" });
    using other = engine.createChat({ system: "be brief" });
    await say(chat, "hello");
    await chat.truncate(1);
    const { text, cachedTokens } = await say(chat, "what now");
    expect(text).toBe((await say(other, "what now")).text);
    expect(cachedTokens).toBeGreaterThan(encode("be brief").length);
  });
});

describe("a full context", () => {
  test("ends the answer with what was said, and every later one at once, without an error", async () => {
    using small = await load({ contextLength: 64, poolLength: 64 });
    using chat = small.createChat();
    const first = await say(chat, "hello", { ...PLAIN, maxTokens: 200 });
    expect(first.finishReason).toBe("context");
    expect(first.text).toBe(await textAfter(promptIds("hello"), { ...PLAIN, maxTokens: 64 - promptIds("hello").length }));
    expect(chat.tokenCount).toBe(64);
    expect(await say(chat, "go on")).toMatchObject({ text: "", finishReason: "context", generatedTokens: 0 });
  });
});

describe("several chats on one engine", () => {
  const MESSAGES = ["hello", "good day", "what now"];

  /** The answers to two messages, with nobody else there. */
  async function answersAlone(message: string): Promise<string[]> {
    using chat = engine.createChat();
    return [(await say(chat, message)).text, (await say(chat, "go on")).text];
  }

  test("answer each in its own order, as each would alone", async () => {
    const alone = await Promise.all(MESSAGES.map(answersAlone));
    const chats = MESSAGES.map(() => engine.createChat());
    // All is asked for before the first answer begins. A chat's second turn has its first one's answer all the same.
    const ended: string[] = [];
    const answers = [0, 1].flatMap((round) =>
      chats.map(async (chat, index) => {
        const { text } = await say(chat, round === 0 ? (MESSAGES[index] ?? "") : "go on");
        ended.push(`${index} ${round}`);
        return text;
      }),
    );
    expect(await Promise.all(answers)).toEqual([0, 1].flatMap((round) => alone.map((texts) => texts[round])));
    for (const index of chats.keys()) expect(ended.filter((each) => each.startsWith(`${index}`))).toEqual([`${index} 0`, `${index} 1`]);
    for (const chat of chats) chat.dispose();
  });

  test("answer the same where the pool holds only one of them", async () => {
    const alone = await Promise.all(MESSAGES.map(answersAlone));
    using crowded = await load({ contextLength: 96, poolLength: 96, pageSize: 16 });
    const chats = MESSAGES.map(() => crowded.createChat());
    for (const round of [0, 1]) {
      for (const [index, chat] of chats.entries()) {
        const summary = await say(chat, round === 0 ? (MESSAGES[index] ?? "") : "go on");
        expect(summary).toMatchObject({ text: alone[index]?.[round], cachedTokens: 0 }); // its pages had gone to another
      }
    }
  });

  test("go on when one of them is disposed of in mid-answer, whose pages come back", async () => {
    using crowded = await load({ contextLength: 96, poolLength: 96, pageSize: 16 });
    for (let round = 0; round < 3; round++) {
      const [leaving, staying] = [crowded.createChat(), crowded.createChat()];
      const answer = leaving.send("hello", { ...PLAIN, maxTokens: 80 });
      const next = say(staying, "good day");
      const reading = (async () => {
        for await (const _ of answer) leaving.dispose();
      })();
      await expectLlmError(reading, "disposed", "chat");
      await expectLlmError(answer.finished, "disposed", "chat");
      expect((await next).text).toBe((await answersAlone("good day"))[0]);
      expect(() => leaving.send("again")).toThrow("disposed");
      staying.dispose();
    }
    using chat = crowded.createChat();
    const prompt = promptIds("hello").length;
    expect(await say(chat, "hello", { ...PLAIN, maxTokens: 200 })).toMatchObject({ finishReason: "context", generatedTokens: 96 - prompt });
  });
});

describe("a text without a template", () => {
  test("goes on as its ids do", async () => {
    const answer = engine.completeText("once upon a time", PLAIN);
    let text = "";
    for await (const delta of answer) text += delta.text;
    expect(text).toBe(await textAfter(encode("once upon a time")));
    expect(await answer.finished).toMatchObject({ text, finishReason: "length", generatedTokens: PLAIN.maxTokens });
  });

  test("needs a token to go on from", () => expectLlmError(engine.completeText("", PLAIN).finished, "bad-request", "no tokens"));
});

test("settings out of range are refused before anything is said", async () => {
  using chat = engine.createChat();
  for (const options of [{ temperature: -1 }, { topP: 2 }, { maxTokens: -1 }, { stop: [""] }, { logitBias: new Map([[512, 1]]) }]) {
    expect(() => chat.send("hello", options), JSON.stringify(options)).toThrow(/is -1|is 2|stop string|token 512/);
  }
  expect(chat.messages).toEqual([]);
});
