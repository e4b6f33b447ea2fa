// What meets in the engine at the same time and must not touch: identities of weights, a device that is lost amid something, and who waits for whom.
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { present } from "../../src/assert";
import { type Answer, type Chat, type ChatSnapshot, type Engine, type LoadOptions, loadEngine } from "../../src/index";
import { transcriptFaults } from "../soak/invariants";
import { chatContents } from "../soak/phases";
import { idsOf } from "../soak/quiet";
import { SoakGpu } from "../soak/soak-gpu";
import { SoakLink } from "../soak/soak-link";
import { expectLlmError } from "../support/expect-llm-error";
import { type FileContents, memoryFiles } from "../support/memory-files";
import { planFile } from "../support/stage-plans";
import { without } from "../support/staged-engine";
import { sharingEngine } from "../support/test-model";
import { SPECIAL_IDS } from "../support/tiny-chat-model";

const SHAPE = { contextLength: 256, poolLength: 1024, chunkRows: 72, pageSize: 16, kvFormat: "f32", prefixCache: false } as const;
/** Boundary 1, then 3. */
const PLAN = planFile([without(6, 1, 3), without(6, 3), without(6)]);
/** The likeliest token, and no control token: an answer is as long as it was asked to be. */
const PLAIN = { temperature: 0, logitBias: new Map(SPECIAL_IDS.map((id) => [id, Number.NEGATIVE_INFINITY])) } as const;
const ENOUGH = new Error("enough");
const QUESTION = "Tell me of the sea";

const contents = await chatContents("llama-gqa");

async function load(options: LoadOptions = {}, files: FileContents = contents): Promise<Engine> {
  const shareDeviceWith = await sharingEngine();
  return loadEngine(memoryFiles(files), { ...SHAPE, shareDeviceWith, plan: PLAN, delivery: "manual", tuning: "off", ...options });
}

function ask(chat: Chat, message: string, maxTokens: number, signal?: AbortSignal): Answer {
  const answer = chat.send(message, { ...PLAIN, maxTokens, ...(signal && { signal }) });
  answer.finished.catch(() => undefined); // whoever waits for it sees
  return answer;
}

async function say(chat: Chat, message: string, maxTokens = 12): Promise<string> {
  return (await ask(chat, message, maxTokens).finished).text;
}

/** What a new chat with these messages says, whose text is encoded anew. */
async function sayAfresh(engine: Engine, { messages }: Pick<Chat, "messages">, message: string, maxTokens = 12): Promise<string> {
  using chat = engine.createChat({ messages });
  return await say(chat, message, maxTokens); // before it is disposed of
}

/** The chat says what the engine says to the same ids when it knows nothing of them. */
async function expectGoesOn(engine: Engine, chat: Chat, message = "And then?", maxTokens = 12): Promise<void> {
  await say(chat, message, maxTokens);
  const ids = idsOf(await chat.snapshot());
  expect(transcriptFaults(ids, chat.messages, (some) => engine.tokenizer.decode(some))).toEqual([]);
  const afresh = await engine.generateIds(ids.slice(0, -maxTokens), { ...PLAIN, maxTokens });
  expect(ids.slice(-maxTokens)).toEqual(afresh.ids);
}

async function reasonOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => "it succeeded",
    (error: unknown) => error,
  );
}

/** Resolves at the answer's delta number `count`; the answer goes on. */
async function heard(answer: Answer, count: number): Promise<void> {
  let left = count;
  return new Promise((resolve, reject) => {
    const listen = async () => {
      for await (const _ of answer) if (--left === 0) resolve();
    };
    listen().catch(reject);
  });
}

describe("weights that are not those of a snapshot", () => {
  let snapshot: ChatSnapshot;
  beforeAll(async () => {
    using engine = await load();
    const chat = engine.createChat();
    await say(chat, QUESTION);
    snapshot = await chat.snapshot();
  });

  // The files' weights are the same to the byte: what differs stands in config.json.
  test("are told by what turns their keys as well: a model with another rotary base takes nothing over", async () => {
    const config = JSON.parse(String(contents["config.json"]));
    const turned = { ...config, rope_parameters: { rope_type: "default", rope_theta: 100 } };
    using other = await load({}, { ...contents, "config.json": JSON.stringify(turned) });
    await expectGoesOn(other, await other.restoreChat(snapshot));
  });

  test("are told after two journeys: from the whole weights to rounded ones and back", async () => {
    using rounded = await load({ quantise: "q4" });
    const there = await rounded.restoreChat(snapshot.toBytes());
    await expectGoesOn(rounded, there, "So", 4);
    const restedThere = await there.snapshot();
    using back = await load();
    await expectGoesOn(back, await back.restoreChat(restedThere));
  });

  test("are told when the restoration waits while an upgrade lands, and the words are another tokenizer's", async () => {
    using other = await load({}, { ...contents, "tokenizer.json": withOtherIds(contents["tokenizer.json"]) });
    const talking = ask(other.createChat(), QUESTION, 40);
    await heard(talking, 2);
    const [restored] = await Promise.all([other.restoreChat(snapshot), other.upgrade({ stage: 1 })]);
    await talking.finished;
    expect(restored.messages).toEqual(snapshot.messages);
    expect(await say(restored, "And then?")).toBe(await sayAfresh(other, snapshot, "And then?"));
  });
});

/** The same tokens, the control tokens apart, in the opposite order. */
function withOtherIds(file: Uint8Array | string | undefined): string {
  const json = JSON.parse(typeof file === "string" ? file : new TextDecoder().decode(file));
  const vocab: Record<string, number> = json.model.vocab;
  const size = Object.keys(vocab).length;
  const first = SPECIAL_IDS.length;
  const turned = Object.entries(vocab).map(([token, id]) => [token, id < first ? id : first + size - 1 - id]);
  return JSON.stringify({ ...json, model: { ...json.model, vocab: Object.fromEntries(turned) } });
}

describe("a device that is lost", { timeout: 400_000 }, () => {
  const gpu = new SoakGpu();
  const link = new SoakLink("llama-gqa", contents);
  let engine: Engine | undefined;
  const own = { gpu: gpu.gpu, defaultLimits: true, without: ["subgroup-matrix"], plan: PLAN, delivery: "manual", tuning: "off" } as const;
  // One for all tests, as each device compiles its kernels anew; another where a test ended it.
  beforeEach(async () => {
    link.mend();
    const isAlive = await engine?.generateIds([3], { ...PLAIN, maxTokens: 1 }).then(
      () => true,
      () => false,
    );
    if (isAlive) return;
    engine?.dispose();
    engine = await loadEngine(link.files(), { ...SHAPE, ...own });
  }, 400_000);
  afterAll(() => engine?.dispose());
  const ready = () => present(engine, "engine");

  test("at the last stage comes back though that stage is asked for while its weights are read", async () => {
    const engine = ready();
    await engine.upgrade();
    const chat = engine.createChat();
    const answer = ask(chat, QUESTION, 30);
    await heard(answer, 3);
    link.cut("stalls");
    gpu.loseDevices();
    await vi.waitFor(() => expect(link.heldCount).toBeGreaterThan(0), 60_000);
    await engine.upgrade();
    link.mend();
    await answer.finished;
    await expectGoesOn(engine, chat);
    engine.dispose(); // the other tests need stages that are still to come
  });

  test("again while the weights are read for the next one costs at most the answer, and not the engine", async () => {
    const engine = ready();
    const chat = engine.createChat();
    const answer = ask(chat, QUESTION, 30);
    await heard(answer, 3);
    link.cut("stalls");
    gpu.loseDevices();
    await vi.waitFor(() => expect(link.heldCount).toBeGreaterThan(0), 60_000);
    gpu.loseDevices();
    link.mend();
    const outcome = await answer.finished.then(() => "it went on", reasonCode);
    expect(["it went on", "device-lost"]).toContain(outcome);
    await expectGoesOn(engine, chat);
  });

  test("amid a snapshot, with another chat's question behind it, fails neither the chat nor the question", async () => {
    const engine = ready();
    const [chat, other] = [engine.createChat(), engine.createChat()];
    await say(chat, QUESTION);
    const snapshot = reasonOf(chat.snapshot());
    const behind = say(other, QUESTION);
    gpu.loseDevices();
    const taken = await snapshot;
    expect(["it succeeded", "device-lost"]).toContain(typeof taken === "string" ? taken : reasonCode(taken));
    expect(await behind).toBe(await sayAfresh(engine, { messages: [] }, QUESTION));
    await expectGoesOn(engine, chat);
  });

  test("while an upgrade's bytes are awaited and a chat is given up lets the same upgrade land", async () => {
    const engine = ready();
    const [chat, givenUp] = [engine.createChat(), engine.createChat()];
    await say(chat, QUESTION);
    link.cut("stalls");
    const upgrade = reasonOf(engine.upgrade({ stage: 1 }));
    await vi.waitFor(() => expect(link.heldCount).toBeGreaterThan(0), 60_000);
    const answer = ask(givenUp, QUESTION, 30);
    await heard(answer, 2);
    gpu.loseDevices();
    givenUp.dispose();
    link.mend();
    await expectLlmError(answer.finished, "disposed");
    expect(await upgrade).toBe("it succeeded");
    expect(engine.stage.index).toBe(1);
    await expectGoesOn(engine, chat);
  });
});

function reasonCode(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : error;
}

describe("chats of one engine", () => {
  test("answer beside each other, and one chat's two questions after each other", async () => {
    using engine = await load();
    const [chat, other] = [engine.createChat(), engine.createChat()];
    const ended: string[] = [];
    const note = (name: string, answer: Answer) => answer.finished.then(({ text }) => ended.push(name) > 0 && text);
    const texts = await Promise.all([
      note("first", ask(chat, QUESTION, 24)),
      note("second", ask(chat, "And then?", 8)),
      note("other", ask(other, "So", 4)),
    ]);
    expect(ended).toEqual(["other", "first", "second"]);
    const twin = engine.createChat();
    expect(texts).toEqual([
      await say(twin, QUESTION, 24),
      await say(twin, "And then?", 8),
      await sayAfresh(engine, { messages: [] }, "So", 4),
    ]);
  });

  test.each([0, 1, 3, 6, 12])(
    "get a stage that is asked for again when its upgrade was just called off, %i turns after it began",
    async (turns) => {
      const engine = await load();
      try {
        const calling = new AbortController();
        const first = reasonOf(engine.upgrade({ stage: 2, signal: calling.signal }));
        for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setTimeout(resolve, 1));
        calling.abort(ENOUGH);
        await engine.upgrade({ stage: 2 });
        expect(engine.stage.index).toBe(2);
        await first;
      } finally {
        engine.dispose();
      }
    },
  );

  test("may lose the question that waits and the upgrade behind theirs, and nobody else's", async () => {
    const started: number[] = [];
    using engine = await load({ onEvent: (event) => event.type === "upgrade-start" && started.push(event.stage.index) });
    const [chat, idle] = [engine.createChat(), engine.createChat()];
    await say(idle, QUESTION);
    const answer = ask(chat, QUESTION, 100);
    const [question, further] = [new AbortController(), new AbortController()];
    const waiting = ask(chat, "And then?", 8, question.signal);
    await heard(answer, 2);
    const upgrade = reasonOf(engine.upgrade({ stage: 1, policy: "turn-boundary" }));
    const furtherUpgrade = reasonOf(engine.upgrade({ stage: 2, policy: "turn-boundary", signal: further.signal }));
    question.abort(ENOUGH);
    expect(await reasonOf(waiting.finished)).toBe(ENOUGH);
    // It has taken the first one's work over by then.
    await vi.waitFor(() => expect(started).toEqual([1, 2]), 30_000);
    further.abort(ENOUGH);
    expect(await furtherUpgrade).toBe(ENOUGH);
    const { text } = await answer.finished;
    expect(await upgrade).toBe("it succeeded");
    expect(engine.stage.index).toBe(1);
    expect(chat.messages).toEqual([
      { role: "user", content: QUESTION },
      { role: "assistant", content: text },
    ]);
    await expectGoesOn(engine, idle);
  });

  test("go on as alone when one of the same step is given up and another takes its row", async () => {
    using engine = await load();
    const alone = [await sayAfresh(engine, { messages: [] }, QUESTION, 40), await sayAfresh(engine, { messages: [] }, "So", 6)];
    const [stays, leaves, comes] = [engine.createChat(), engine.createChat(), engine.createChat()];
    const staying = ask(stays, QUESTION, 40);
    const leaving = ask(leaves, "Why is that?", 40);
    await Promise.all([heard(staying, 3), heard(leaving, 3)]);
    leaves.dispose();
    let isStaying = true;
    const stayed = staying.finished.then(({ text }) => {
      isStaying = false;
      return text;
    });
    const coming = ask(comes, "So", 6).finished.then(({ text }) => [text, isStaying]);
    await expectLlmError(leaving.finished, "disposed");
    expect(await coming).toEqual([alone[1], true]);
    expect(await stayed).toBe(alone[0]);
  });
});
