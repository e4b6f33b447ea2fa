// Sends, aborts, failures, truncations, snapshots and restores in random order: the model always reads what the conversation says.
import { beforeAll, describe, expect, test } from "vitest";
import { Chat } from "../../../src/chat/chat";
import { ChatSnapshot } from "../../../src/chat/chat-snapshot";
import { LlmError } from "../../../src/errors";
import { type FakeChatCore, type FakeModel, type FakeRun, fakeModel, settled } from "../../support/fake-chat-core";
import { type Random, seededRandom } from "../../support/random";
import { ALTERNATING_TEMPLATE, END_ID } from "../../support/tiny-chat-model";

let model: FakeModel;
beforeAll(async () => {
  model = await fakeModel(ALTERNATING_TEMPLATE);
});

const REASON = new LlmError("out-of-memory", "no room");

class Conversation {
  readonly #random: Random;
  readonly #core: FakeChatCore;
  #chat: Chat;
  #taken: Promise<ChatSnapshot> | null = null;
  readonly #asked: Promise<unknown>[] = [];
  readonly #aborts: AbortController[] = [];

  constructor(seed: number) {
    this.#random = seededRandom(`conversation ${seed}`);
    this.#core = model.core();
    this.#chat = this.#newChat();
  }

  #newChat(): Chat {
    return new Chat(this.#core, model.tokenizer, () => undefined, {});
  }

  get #runs(): readonly FakeRun[] {
    return this.#core.runs.filter((run) => !run.isOver);
  }

  /** One thing that a caller or the engine may do. */
  async step(): Promise<void> {
    const random = this.#random;
    const [run] = this.#runs;
    switch (random.integer(9)) {
      case 0:
      case 1: {
        const abort = new AbortController();
        this.#aborts.push(abort);
        this.#ask(this.#chat.send(`q${random.integer(100)}`, { signal: abort.signal, stop: "zz" }).finished);
        break;
      }
      case 2:
        this.#aborts.splice(random.integer(this.#aborts.length || 1), 1)[0]?.abort();
        break;
      case 3: // to a question, as an edit does
        this.#ask(this.#chat.truncate(2 * random.integer(4)));
        break;
      case 4:
        this.#taken = this.#chat.snapshot();
        this.#ask(this.#taken);
        break;
      case 5:
        if (this.#taken) await this.#goOnFrom(this.#taken);
        break;
      case 6:
        run?.fail(REASON);
        break;
      default:
        this.#speak(run);
    }
    if (random.integer(3) > 0) await settled();
    this.#check();
  }

  #speak(run: FakeRun | undefined): void {
    if (!run) return;
    for (let count = this.#random.integer(4); count > 0 && !run.isOver; count--) run.say(3 + this.#random.integer(500));
    if (run.isOver) return;
    const ending = this.#random.integer(4);
    if (ending === 0) run.say(END_ID);
    else if (ending === 1) run.end();
  }

  async #goOnFrom(taken: Promise<ChatSnapshot>): Promise<void> {
    await this.#finish();
    const snapshot = await taken;
    this.#chat.dispose();
    this.#chat = this.#newChat();
    await this.#chat.restore(await ChatSnapshot.fromBytes(snapshot.toBytes()));
    expect(this.#chat.messages).toEqual(snapshot.messages);
    expect(this.#chat.tokenCount).toBe(snapshot.kv.ids.length);
  }

  #ask(promise: Promise<unknown>): void {
    this.#asked.push(promise.catch((error: unknown) => expect(error === REASON || (error as Error).name === "AbortError").toBe(true)));
  }

  /** What holds at any time. */
  #check(): void {
    const { messages } = this.#chat;
    expect(this.#runs.length).toBeLessThanOrEqual(1);
    expect(messages.map(({ role }) => role)).toEqual(messages.map((_, index) => (index % 2 === 0 ? "user" : "assistant")));
    const [run] = this.#runs;
    if (!run) return;
    expect(model.tokenizer.decode(run.prompt, { skipSpecialTokens: false })).toBe(model.tokenizer.renderChat(messages));
  }

  async #finish(): Promise<void> {
    while (true) {
      await settled();
      const [run] = this.#runs;
      if (!run) break;
      run.end();
    }
    await Promise.all(this.#asked);
  }

  async end(): Promise<void> {
    await this.#finish();
    this.#check();
    expect(this.#chat.messages.length % 2).toBe(0);
    const snapshot = await this.#chat.snapshot();
    expect(snapshot.kv.ids.length).toBe(this.#chat.tokenCount);
    if (snapshot.turn) expect(snapshot.turn.ids).toEqual(snapshot.kv.ids);
  }
}

describe("whatever is asked of a chat, and however it ends", () => {
  test.each(Array.from({ length: 30 }, (_, seed) => seed))("the model reads the conversation as it is (seed %i)", async (seed) => {
    const conversation = new Conversation(seed);
    for (let step = 0; step < 60; step++) await conversation.step();
    await conversation.end();
  });
});
