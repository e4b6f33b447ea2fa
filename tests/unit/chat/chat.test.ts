// What is asked of a chat: in which order it runs, and what an answer leaves behind that did not come to its end.
import { beforeAll, describe, expect, test } from "vitest";
import { Chat, type ChatEvent, type ChatOptions } from "../../../src/chat/chat";
import { Engine } from "../../../src/chat/engine";
import type { Delivery } from "../../../src/engine/delivery";
import { LlmError } from "../../../src/errors";
import { Tokenizer } from "../../../src/tokens/tokenizer";
import { expectLlmError } from "../../support/expect-llm-error";
import { type FakeChatCore, type FakeModel, fakeModel, settled } from "../../support/fake-chat-core";
import { ALTERNATING_TEMPLATE, END_ID } from "../../support/tiny-chat-model";
import { sentencePiece, sentencePieceMetadata } from "../tokens/golden-tokens";

let model: FakeModel;
beforeAll(async () => {
  model = await fakeModel();
});

function chatOn(core: FakeChatCore, options: ChatOptions = {}, onEvent: (event: ChatEvent) => void = () => undefined): Chat {
  return new Chat(core, model.tokenizer, onEvent, options);
}

const encode = (text: string) => model.tokenizer.encode(text, { addSpecialTokens: false });
const promptText = (ids: readonly number[]) => model.tokenizer.decode(ids, { skipSpecialTokens: false });
const said = (chat: Chat) => chat.messages.map(({ role, content }) => `${role}: ${content}`);

describe("what is asked of one chat", () => {
  test("runs in the order that it was asked, each with what the one before left", async () => {
    const core = model.core();
    const chat = chatOn(core);
    const [first, second] = [chat.send("one"), chat.send("two")];
    const run = await core.run(0);
    await settled();
    expect(core.runs).toHaveLength(1);
    run.say(...encode("ab"));
    run.end();
    expect((await first.finished).text).toBe("ab");
    const next = await core.run(1);
    expect(promptText(next.prompt)).toContain("one<end>\n<begin>assistant\nab<end>\n<begin>user\ntwo");
    next.end();
    await second.finished;
    expect(said(chat)).toEqual(["user: one", "assistant: ab", "user: two", "assistant: "]);
  });

  test("waits for no other chat", async () => {
    const core = model.core();
    const [one, two] = [chatOn(core), chatOn(core)];
    const [slow, fast] = [one.send("one"), two.send("two")];
    await core.run(0);
    (await core.run(1)).end();
    await fast.finished;
    (await core.run(0)).end();
    await slow.finished;
  });

  test("is called off or fails without touching what comes after, or another chat's", async () => {
    const core = model.core();
    const [one, two] = [chatOn(core), chatOn(core)];
    const abort = new AbortController();
    const answers = [one.send("a"), one.send("b", { signal: abort.signal }), one.send("c"), one.send("d"), two.send("e")];
    abort.abort();
    await expect(answers[1]?.finished).rejects.toMatchObject({ name: "AbortError" });
    const [a, e] = [await core.run(0), await core.run(1)];
    a.end();
    const c = await core.run(2);
    expect(promptText(c.prompt)).not.toContain("b<end>");
    c.fail(new LlmError("out-of-memory", "no room"));
    await expectLlmError(answers[2]?.finished ?? Promise.resolve(), "out-of-memory");
    (await core.run(3)).end();
    e.end();
    await Promise.all([answers[0]?.finished, answers[3]?.finished, answers[4]?.finished]);
    expect(said(one)).toEqual(["user: a", "assistant: ", "user: d", "assistant: "]);
  });

  // Messages were read when the copy was done: by then the next answer's question was among them.
  test("is in a snapshot if it was asked for before, and not if after", async () => {
    const core = model.core();
    const chat = chatOn(core);
    const before = chat.send("one");
    const taken = chat.snapshot();
    const after = chat.send("two");
    const run = await core.run(0);
    run.say(...encode("ab"));
    run.end();
    const snapshot = await taken;
    (await core.run(1)).end();
    await Promise.all([before.finished, after.finished]);
    expect(snapshot.messages.map(({ content }) => content)).toEqual(["one", "ab"]);
    expect(snapshot.turn?.ids).toEqual(snapshot.kv.ids);
    expect(promptText(snapshot.kv.ids)).toContain("one<end>");
    expect(promptText(snapshot.kv.ids)).not.toContain("two");
  });

  test("ends with the chat, under way or waiting", async () => {
    const core = model.core();
    const chat = chatOn(core);
    const asked = [chat.send("one").finished, chat.send("two").finished, chat.snapshot(), chat.truncate(0)];
    await core.run(0);
    chat.dispose();
    for (const each of asked) await expectLlmError(each, "disposed", "chat");
    expect(core.runs).toHaveLength(1);
    expect(core.released).toHaveLength(1);
    expect(() => chat.send("three")).toThrow("disposed");
  });

  test("ends with the engine, under way or waiting", async () => {
    const core = model.core();
    const chat = chatOn(core);
    const asked = [chat.send("one").finished, chat.send("two").finished];
    await core.run(0);
    core.dispose();
    for (const each of asked) await expectLlmError(each, "disposed", "engine");
    await expectLlmError(chat.send("three").finished, "disposed", "engine");
    expect(chat.messages).toEqual([]);
  });
});

describe("an answer that ends before its first text", () => {
  test("leaves the conversation as it was, so that asking again asks once", async () => {
    const core = model.core();
    const chat = chatOn(core);
    for (let round = 0; round < 3; round++) {
      const abort = new AbortController();
      const answer = chat.send("hello", { signal: abort.signal });
      await core.run(round);
      expect(said(chat)).toEqual(["user: hello"]);
      abort.abort();
      await expect(answer.finished).rejects.toMatchObject({ name: "AbortError" });
      expect(chat.messages).toEqual([]);
      expect(chat.tokenCount).toBe(0);
    }
    const again = chat.send("hello");
    const run = await core.run(3);
    expect(run.prompt).toEqual(encode(model.tokenizer.renderChat([{ role: "user", content: "hello" }])));
    run.say(...encode("ab"));
    run.end();
    await again.finished;
    expect(said(chat)).toEqual(["user: hello", "assistant: ab"]);
  });

  test.each<[string, (core: FakeChatCore, index: number, abort: AbortController) => Promise<void>]>([
    ["failed", async (core, index) => (await core.run(index)).fail(new LlmError("device-lost", "gone"))],
    [
      "was aborted",
      async (core, index, abort) => {
        await core.run(index);
        abort.abort();
      },
    ],
    [
      "was aborted while its text was held back",
      async (core, index, abort) => {
        (await core.run(index)).say(...encode("a"));
        abort.abort();
      },
    ],
  ])("and %s goes with its question, also in a template that wants turns to alternate", async (_, end) => {
    const alternating = await fakeModel(ALTERNATING_TEMPLATE);
    const core = alternating.core();
    const chat = new Chat(core, alternating.tokenizer, () => undefined, {});
    const first = chat.send("one");
    (await core.run(0)).say(...encode("ab"), END_ID);
    await first.finished;
    const rested = chat.tokenCount;
    for (let round = 1; round < 4; round++) {
      const abort = new AbortController();
      const answer = chat.send(`try ${round}`, { stop: "az", signal: abort.signal });
      await end(core, round, abort);
      await expect(answer.finished).rejects.toBeDefined();
      expect(said(chat)).toEqual(["user: one", "assistant: ab"]);
      expect(chat.tokenCount).toBe(rested);
    }
    const last = chat.send("two");
    const run = await core.run(4);
    expect(promptText(run.prompt)).toMatch(/assistant\nab<end>\n<begin>user\ntwo<end>\n<begin>assistant\n$/);
    run.end();
    await last.finished;
  });

  test("keeps the tokens of the system message", async () => {
    const core = model.core();
    const chat = chatOn(core, { system: "be brief" });
    const abort = new AbortController();
    const answer = chat.send("hello", { signal: abort.signal });
    await core.run(0);
    abort.abort();
    await expect(answer.finished).rejects.toBeDefined();
    expect(chat.tokenCount).toBeGreaterThan(encode("be brief").length);
    expect(chat.tokenCount).toBeLessThan((await core.run(0)).prompt.length);
    expect(said(chat)).toEqual(["system: be brief"]);
  });

  test("is no failure where the model chose to say nothing", async () => {
    const core = model.core();
    const chat = chatOn(core);
    const answer = chat.send("hello");
    (await core.run(0)).say(END_ID);
    expect(await answer.finished).toMatchObject({ text: "", finishReason: "stop" });
    expect(said(chat)).toEqual(["user: hello", "assistant: "]);
  });
});

test("an answer that is aborted later stays as far as it came", async () => {
  const core = model.core();
  const chat = chatOn(core);
  const abort = new AbortController();
  const answer = chat.send("hello", { signal: abort.signal });
  (await core.run(0)).say(...encode("ab"));
  abort.abort();
  await expect(answer.finished).rejects.toMatchObject({ name: "AbortError" });
  expect(said(chat)).toEqual(["user: hello", "assistant: ab"]);
});

describe("a chat that is cut back", () => {
  /** One answer after another: each is given in the tokens that the model chose. */
  async function talk(core: FakeChatCore, chat: Chat, turns: readonly (readonly [question: string, answer: readonly number[]])[]) {
    for (const [question, ids] of turns) {
      const index = core.runs.length;
      const answer = chat.send(question);
      const run = await core.run(index);
      run.say(...ids);
      if (ids.at(-1) !== END_ID) run.end();
      await answer.finished;
    }
  }

  // "ab" is one token; the model may write it as two.
  const SPLIT = () => [...encode("a"), ...encode("b")];

  test("keeps the tokens of what stays, as the model chose them", async () => {
    const core = model.core();
    const chat = chatOn(core);
    await talk(core, chat, [
      ["one", [...SPLIT(), END_ID]],
      ["two", SPLIT()],
      ["three", SPLIT()],
    ]);
    const second = core.runs[1]?.prompt ?? [];
    await chat.truncate(2);
    expect(said(chat)).toEqual(["user: one", "assistant: ab"]);
    await talk(core, chat, [["two", SPLIT()]]);
    expect(core.runs.at(-1)?.prompt).toEqual(second);
    expect(encode("ab")).not.toEqual(SPLIT()); // else nobody could tell
    await chat.truncate(2);
    await talk(core, chat, [["other", SPLIT()]]);
    const other = core.runs.at(-1)?.prompt ?? [];
    expect(promptText(other)).toContain("user\nother<end>");
    expect(other.slice(0, 20)).toEqual(second.slice(0, 20));
  });

  test("keeps the beginning of the first question's prompt", async () => {
    const core = model.core();
    const chat = chatOn(core, { system: "be brief" });
    await talk(core, chat, [["one", SPLIT()]]);
    await chat.truncate(1);
    expect(said(chat)).toEqual(["system: be brief"]);
    expect(chat.tokenCount).toBeGreaterThan(encode("be brief").length);
    await talk(core, chat, [["two", SPLIT()]]);
    expect(promptText(core.runs.at(-1)?.prompt ?? [])).toMatch(/be brief<end>\n<begin>user\ntwo<end>/);
  });

  test("is so after the answers asked for before, and before those asked for after", async () => {
    const core = model.core();
    const chat = chatOn(core);
    const first = chat.send("one");
    const cut = chat.truncate(0);
    const second = chat.send("two");
    (await core.run(0)).end();
    const run = await core.run(1);
    expect(promptText(run.prompt)).not.toContain("one");
    run.end();
    await Promise.all([first.finished, cut, second.finished]);
    expect(said(chat)).toEqual(["user: two", "assistant: "]);
  });

  test("at an index past its end stays, and at one that is none is refused", async () => {
    const chat = chatOn(model.core(), { messages: [{ role: "user", content: "one" }] });
    await chat.truncate(7);
    expect(chat.messages).toHaveLength(1);
    for (const index of [-1, 0.5, Number.NaN]) await expectLlmError(chat.truncate(index), "bad-request", "messageIndex");
  });
});

describe("a request is refused before anything is said", () => {
  const options = (value: unknown) => value as never;

  test.each<[unknown, string]>([
    [{ max_tokens: 5 }, "Did you mean maxTokens?"],
    [{ top_p: 99 }, "Did you mean topP?"],
    [{ maxNewTokens: 5 }, "Did you mean maxTokens?"],
    [{ tempreature: 1 }, "temperature"],
    [{ temperature: "warm" }, 'temperature is "warm"; expected a number'],
    [{ maxTokens: 1.5 }, "maxTokens is 1.5"],
    [{ stop: 5 }, "stop is 5; expected a text or a list of texts"],
    [{ logitBias: { 5: 1 } }, "logitBias is an object; expected a Map"],
    [{ signal: new AbortController() }, "signal"],
    ["short", "expected an object"],
  ])("for options %j", (given, words) => {
    const chat = chatOn(model.core());
    expect(() => chat.send("hello", options(given))).toThrow(words);
    expect(chat.messages).toEqual([]);
  });

  test("for messages in the place of a text, with the form that is", () => {
    const core = model.core();
    const chat = chatOn(core);
    expect(() => chat.send(options([{ role: "user", content: "hi" }]))).toThrow("The message is a list of 1; expected a text");
    expect(() => chatOn(core, options([{ role: "user", content: "hi" }]))).toThrow("expected an object with system, messages");
    expect(() => chatOn(core, options({ messages: "hi" }))).toThrow("expected a list of messages");
    expect(() => chatOn(core, options({ messages: [{ role: "bot", content: "hi" }] }))).toThrow('Message 0: its role is "bot"');
    expect(() => chatOn(core, options({ messages: [{ role: "user", content: [] }] }))).toThrow("its content is a list of 0");
  });

  test("for more stop tokens than the kernels compare with", async () => {
    const engine = new Engine(model.core() as never, model.tokenizer, {} as Delivery);
    const stopIds = Array.from({ length: 65 }, (_, id) => id);
    await expectLlmError(engine.generateIds([1], { maxTokens: 1, stopIds }), "bad-request", "65 stop tokens");
    await expectLlmError(engine.generateIds([1], { maxTokens: 1, stopIds: [-1] }), "bad-request", "stopIds");
    await expectLlmError(engine.generateIds([1], options({})), "bad-request", "maxTokens");
  });
});

describe("completions", () => {
  function engineOn(core: FakeChatCore): Engine {
    return new Engine(core as never, model.tokenizer, {} as Delivery);
  }

  test("by ids resolve when their own run is over", async () => {
    const core = model.core();
    const engine = engineOn(core);
    const chat = engine.createChat();
    const ids = engine.generateIds([5, 6], { maxTokens: 1 });
    const answer = chat.send("hello");
    const run = await core.run(0);
    run.say(9);
    run.end();
    expect(await ids).toMatchObject({ ids: [9], stages: [0] });
    expect(core.released).toEqual([run.request.sequence]);
    (await core.run(1)).end();
    await answer.finished;
  });

  test("end at one stop text as at a list of it", async () => {
    const core = model.core();
    const answer = engineOn(core).completeText("once", { stop: "\n" });
    const run = await core.run(0);
    run.say(...encode("ab\ncd"));
    expect(await answer.finished).toMatchObject({ text: "ab", finishReason: "stop" });
    expect(core.released).toEqual([run.request.sequence]);
  });

  // The space that a chat's answer rightly drops at its start was dropped here too.
  test("keep the space between prompt and answer, in vocabularies that put one before each text", async () => {
    const tokenizer = await Tokenizer.fromGguf(sentencePieceMetadata());
    const whole = sentencePiece.strings.find((text) => /^\w+ \w/.test(text)) ?? "";
    const ids = tokenizer.encode(whole, { addSpecialTokens: false });
    const cut = ids.findIndex((id, index) => index > 0 && tokenizer.decode([id], { continuesText: true }).startsWith(" "));
    expect(cut).toBeGreaterThan(0);
    const core = model.core();
    const engine = new Engine(core as never, tokenizer, {} as Delivery);
    const prompt = tokenizer.decode(ids.slice(0, cut));
    const answer = engine.completeText(prompt);
    const run = await core.run(0);
    run.say(...ids.slice(cut));
    run.end();
    expect(prompt + (await answer.finished).text).toBe(tokenizer.decode(ids));
    expect((await answer.finished).text).toMatch(/^ /);
  });

  test("refuse messages, with the form that takes them", () => {
    expect(() => engineOn(model.core()).completeText([{ role: "user", content: "hi" }] as never)).toThrow(
      "engine.createChat({ messages })",
    );
  });
});
