// Conversations at rest, and conversations that begin alike: K/V comes back by copying or is shared, and changes no word.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { writeSafetensors } from "../../src/formats/safetensors-writer";
import {
  type AnswerSummary,
  type Chat,
  ChatSnapshot,
  type Engine,
  type EngineEvent,
  type LoadOptions,
  loadEngine,
  type ModelFiles,
} from "../../src/index";
import { expectLlmError } from "../support/expect-llm-error";
import { goldenContents, memoryFiles } from "../support/memory-files";
import { sharingEngine } from "../support/test-model";
import { SPECIAL_IDS, tinyChatFiles } from "../support/tiny-chat-model";

/** Greedy, and never a control token. */
const PLAIN = { temperature: 0, logitBias: new Map(SPECIAL_IDS.map((id) => [id, Number.NEGATIVE_INFINITY])), maxTokens: 16 };

const events: EngineEvent[] = [];
let engine: Engine;

beforeAll(async () => {
  engine = await load();
});
afterAll(() => engine.dispose());

async function load(options: LoadOptions = {}, files?: ModelFiles): Promise<Engine> {
  const shared = { shareDeviceWith: await sharingEngine(), onEvent: (event: EngineEvent) => events.push(event) };
  const shape = { contextLength: 256, poolLength: 1024, chunkRows: 72, pageSize: 16, kvFormat: "f32" } as const;
  return loadEngine(files ?? (await tinyChatFiles()), { ...shared, ...shape, prefixCache: false, ...options });
}

function say(chat: Chat, message: string): Promise<AnswerSummary> {
  return chat.send(message, PLAIN).finished;
}

/** A chat of one turn, and what it says next if it is left alone. */
async function talked(message: string): Promise<{ readonly snapshot: ChatSnapshot; readonly next: AnswerSummary }> {
  const chat = engine.createChat();
  await say(chat, message);
  const snapshot = await chat.snapshot();
  const next = await say(chat, "And then?");
  chat.dispose();
  return { snapshot, next };
}

/** The same weights, and the same tokens at other ids; of a smaller vocabulary the last ones are missing. */
async function withOtherTokenizer(isAsLarge: boolean): Promise<ModelFiles> {
  const files = await tinyChatFiles();
  const read = async (name: string) => {
    const source = await files.open(name);
    return source ? source.read({ start: 0, end: source.size }) : new Uint8Array();
  };
  const json = JSON.parse(new TextDecoder().decode(await read("tokenizer.json")));
  const { vocab } = json.model;
  const last = Object.keys(vocab).length - 1;
  for (const [token, id] of Object.entries<number>(vocab)) if (id > 2) vocab[token] = last + 3 - id;
  if (!isAsLarge) {
    const dropped: string[] = json.model.merges.splice(-20).map((pair: string[]) => pair.join(""));
    for (const token of dropped) delete vocab[token];
    for (const [index, token] of Object.keys(vocab).entries()) vocab[token] = index;
  }
  const contents = { "tokenizer.json": JSON.stringify(json), "tokenizer_config.json": await read("tokenizer_config.json") };
  return memoryFiles({ ...(await goldenContents()), ...contents });
}

function restored() {
  return events.filter((event) => event.type === "chat-restored").at(-1);
}

describe("a chat that goes on from a snapshot", () => {
  test("says what it would have said, and computes only what is new", async () => {
    const { snapshot, next } = await talked("Tell me of the sea");
    const chat = await engine.restoreChat(snapshot);
    expect(chat.messages).toEqual(snapshot.messages);
    expect(restored()).toMatchObject({ restoredPositions: next.cachedTokens, restoredBytes: snapshot.kvBytes });
    const again = await say(chat, "And then?");
    expect(again).toMatchObject({ text: next.text, cachedTokens: next.cachedTokens, prefillTokens: next.prefillTokens });
    expect(next.cachedTokens).toBeGreaterThan(16);
    chat.dispose();
  });

  test("does so from bytes, on another engine, and twice", async () => {
    const { snapshot, next } = await talked("Name three winds");
    const bytes = snapshot.toBytes();
    expect(bytes.length).toBeLessThan(snapshot.kvBytes + 20_000);
    const other = await load();
    try {
      const twins = [await other.restoreChat(bytes), await other.restoreChat(bytes)];
      for (const twin of twins) expect(await say(twin, "And then?")).toMatchObject({ text: next.text, cachedTokens: next.cachedTokens });
      const [one, two] = twins;
      if (one) await say(one, "A");
      if (two) await say(two, "B");
      expect(twins.map(({ messages }) => messages.at(-2)?.content)).toEqual(["A", "B"]);
    } finally {
      other.dispose();
    }
  });

  test.each<[string, LoadOptions]>([
    ["K/V stored otherwise", { kvFormat: "f16" }],
    ["pages of another size", { pageSize: 32 }],
  ])("finds nothing to restore in an engine with %s, and computes it", async (_, options) => {
    const { snapshot, next } = await talked("How deep is a well?");
    const other = await load(options);
    try {
      const chat = await other.restoreChat(snapshot);
      expect(restored()).toMatchObject({ restoredPositions: 0, restoredBytes: 0 });
      const again = await say(chat, "And then?");
      expect(again.cachedTokens).toBe(0);
      expect(again.text).toBe(next.text);
    } finally {
      other.dispose();
    }
  });

  /** What an engine says when it goes on from ids, with nothing restored. */
  async function nextFrom(on: Engine, ids: readonly number[], messages: ChatSnapshot["messages"]): Promise<string> {
    const rendered = (list: ChatSnapshot["messages"], addGenerationPrompt: boolean) =>
      on.tokenizer.renderChat(list, { addGenerationPrompt });
    const asked = rendered([...messages, { role: "user", content: "And then?" }], true);
    const answer = messages.at(-1)?.content ?? "";
    const after = asked.slice(asked.indexOf(answer) + answer.length);
    const prompt = [...ids, ...on.tokenizer.encode(after, { addSpecialTokens: false })];
    return on.tokenizer.decode((await on.generateIds(prompt, PLAIN)).ids);
  }

  // The signature left out what was done to the weights on the way: K/V of the plain ones was restored, and the answer was another.
  test("keeps its tokens and computes their K/V in an engine of other weights", async () => {
    const { snapshot } = await talked("Tell me of the sea");
    const other = await load({ quantise: "q4" });
    try {
      const chat = await other.restoreChat(snapshot.toBytes());
      expect(restored()).toMatchObject({ from: "ids", tokens: snapshot.kv.ids.length, restoredPositions: 0, restoredBytes: 0 });
      const again = await say(chat, "And then?");
      expect(again.cachedTokens).toBe(0);
      expect(again.text).toBe(await nextFrom(other, snapshot.kv.ids, snapshot.messages));
    } finally {
      other.dispose();
    }
  });

  // Ids of one vocabulary were read as another's: "Tell me of the sea" was "plpnkftn…" to the model.
  test.each([false, true])("has its messages tokenised again by another tokenizer, with as large a vocabulary: %s", async (isAsLarge) => {
    const { snapshot } = await talked("Tell me of the sea");
    const other = await load({}, await withOtherTokenizer(isAsLarge));
    try {
      const chat = await other.restoreChat(snapshot.toBytes());
      expect(restored()).toMatchObject({ from: "messages", tokens: 0, restoredPositions: 0, restoredBytes: 0, layers: [] });
      expect(chat.messages).toEqual(snapshot.messages);
      await say(chat, "And then?");
      const { ids } = (await chat.snapshot()).kv;
      const read = other.tokenizer.decode(ids, { skipSpecialTokens: false });
      expect(read).toContain(
        `Tell me of the sea<end>\n<begin>assistant\n${snapshot.messages[1]?.content}<end>\n<begin>user\nAnd then?<end>`,
      );
    } finally {
      other.dispose();
    }
  });

  test("has its messages only, where an earlier version wrote it", async () => {
    const { snapshot } = await talked("Tell me of the sea");
    const { messages, turn, kv } = snapshot;
    const header = { format: "crescendo-chat", version: 1, messages, turn, ids: kv.ids, pageSize: kv.pageSize, groups: [] };
    const chat = await engine.restoreChat(writeSafetensors([], { "crescendo-chat": JSON.stringify(header) }));
    expect(restored()).toMatchObject({ from: "messages", tokens: 0, restoredPositions: 0 });
    const fresh = engine.createChat({ messages });
    expect(await say(chat, "And then?")).toMatchObject({ text: (await say(fresh, "And then?")).text, cachedTokens: 0 });
  });

  test.each<[string, (content: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer>]>([
    ["half", (content) => content.slice(0, content.length / 2)],
    ["twice", (content) => new Uint8Array([...content, ...content])],
  ])("computes K/V of which %s the bytes are there", async (_, change) => {
    const { snapshot, next } = await talked("Tell me of the sea");
    const groups = snapshot.kv.groups.map((group) => ({
      ...group,
      contents: new Map([...group.contents].map(([name, content]) => [name, change(content)])),
    }));
    const { identity, messages, turn, kv } = snapshot;
    const damaged = new ChatSnapshot({ identity, messages, turn, kv: { ...kv, groups } });
    const chat = await engine.restoreChat(damaged.toBytes());
    expect(restored()).toMatchObject({ from: "ids", restoredPositions: 0, restoredBytes: 0 });
    expect(await say(chat, "And then?")).toMatchObject({ text: next.text, cachedTokens: 0 });
  });

  test("has its messages tokenised again where its ids are no tokens of the model", async () => {
    const { snapshot, next } = await talked("Tell me of the sea");
    const { identity, messages, kv } = snapshot;
    const damaged = new ChatSnapshot({ identity, messages, turn: null, kv: { ...kv, ids: kv.ids.with(3, 512) } });
    const chat = await engine.restoreChat(damaged.toBytes());
    expect(restored()).toMatchObject({ from: "messages", tokens: 0 });
    expect(next.text).not.toBe("");
    expect((await say(chat, "And then?")).finishReason).toBe("length");
  });

  test("is full in an engine whose context it does not fit, and takes no other chat's pages", async () => {
    const { snapshot } = await talked("Tell me of the sea");
    const other = await load({ contextLength: 32, poolLength: 32 });
    try {
      const short = other.createChat();
      await say(short, "a");
      const chat = await other.restoreChat(snapshot);
      expect(restored()).toMatchObject({ from: "ids", restoredPositions: 0 });
      expect(await say(chat, "And then?")).toMatchObject({ text: "", finishReason: "context" });
      expect((await say(short, "b")).cachedTokens).toBeGreaterThan(0);
    } finally {
      other.dispose();
    }
  });

  test("is refused for bytes that are no snapshot, or are cut short", async () => {
    const { snapshot } = await talked("Hm");
    const bytes = snapshot.toBytes();
    await expectLlmError(engine.restoreChat(new Uint8Array(100)), "bad-file");
    const before = engine.memory();
    await expectLlmError(engine.restoreChat(bytes.slice(0, bytes.length - 1)), "bytes-truncated");
    await expectLlmError(engine.restoreChat(bytes.slice(0, 1000)), "bytes-truncated");
    expect(engine.memory()).toEqual(before);
  });

  test("leaves nothing on the GPU but its pages", async () => {
    const before = engine.memory();
    const { snapshot } = await talked("Once more");
    (await engine.restoreChat(snapshot)).dispose();
    expect(engine.memory()).toEqual(before);
  });
});

describe("chats that begin alike", () => {
  const SYSTEM = "You are a keeper of lighthouses and answer every question about ships in short words of the coast.";

  test("share the K/V of their beginning, also when the first is gone, and say what they would have said", async () => {
    const sharing = await load({ prefixCache: true });
    try {
      const alone = engine.createChat({ system: SYSTEM });
      const expected = await say(alone, "Is it late?");
      const first = sharing.createChat({ system: SYSTEM });
      expect((await say(first, "Who are you?")).cachedTokens).toBe(0);
      const second = sharing.createChat({ system: SYSTEM });
      const answer = await say(second, "Is it late?");
      expect(answer.cachedTokens).toBeGreaterThanOrEqual(32);
      expect(answer.cachedTokens % 16).toBe(0);
      expect(answer.text).toBe(expected.text);
      first.dispose();
      second.dispose();
      const third = sharing.createChat({ system: SYSTEM });
      expect(await say(third, "Is it late?")).toMatchObject({ text: expected.text });
    } finally {
      sharing.dispose();
    }
  });

  test("write to no page that another reads", async () => {
    const sharing = await load({ prefixCache: true });
    try {
      const first = sharing.createChat({ system: SYSTEM });
      const second = sharing.createChat({ system: SYSTEM });
      // The same first question: the second chat's pages are the first one's until they part.
      const [a, b] = [await say(first, "Who are you?"), await say(second, "Who are you?")];
      expect(b.text).toBe(a.text);
      const alone = engine.createChat({ system: SYSTEM });
      await say(alone, "Who are you?");
      const expected = await say(alone, "And the ship?");
      await say(second, "Something else entirely, and longer than a page of tokens is, to be sure.");
      expect((await say(first, "And the ship?")).text).toBe(expected.text);
    } finally {
      sharing.dispose();
    }
  });

  test("give up what they share when the pool is full, and go on", async () => {
    const sharing = await load({ prefixCache: true, poolLength: 256 });
    try {
      const texts: string[] = [];
      for (let round = 0; round < 3; round++) {
        const chat = sharing.createChat({ system: `${round} ${SYSTEM}` });
        texts.push((await say(chat, "Is it late?")).text);
        const alone = engine.createChat({ system: `${round} ${SYSTEM}` });
        expect((await say(alone, "Is it late?")).text).toBe(texts.at(-1));
        alone.dispose();
      }
    } finally {
      sharing.dispose();
    }
  });
});
