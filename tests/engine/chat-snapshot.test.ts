// Conversations at rest, and conversations that begin alike: K/V comes back by copying or is shared, and changes no word.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type AnswerSummary,
  type Chat,
  type ChatSnapshot,
  type Engine,
  type EngineEvent,
  type LoadOptions,
  loadEngine,
} from "../../src/index";
import { expectLlmError } from "../support/expect-llm-error";
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

async function load(options: LoadOptions = {}): Promise<Engine> {
  const shared = { shareDeviceWith: await sharingEngine(), onEvent: (event: EngineEvent) => events.push(event) };
  const shape = { contextLength: 256, poolLength: 1024, chunkRows: 72, pageSize: 16, kvFormat: "f32" } as const;
  return loadEngine(await tinyChatFiles(), { ...shared, ...shape, prefixCache: false, ...options });
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
