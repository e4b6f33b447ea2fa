// A chat of a soak: what it was asked, and what was heard of its answers.
import type { AnswerDelta, AnswerOptions, Chat } from "../../src/index";
import { SPECIAL_IDS } from "../support/tiny-chat-model";
import { deltaFaults } from "./invariants";
import type { World } from "./world";

/** How an answer is read: to its end, unless told. */
export interface Listening {
  /** Aborted after so many deltas; 0 is at once. */
  readonly abortAfter?: number;
  /** The reader leaves the loop after so many deltas; 0 is before it asks for one. */
  readonly leaveAfter?: number;
}

export interface HeardAnswer {
  readonly message: string;
  readonly isGreedy: boolean;
  readonly deltas: AnswerDelta[];
  /** More may have been said than was heard: the reader left, or the answer ended at a stop string. */
  isOpenEnded: boolean;
}

/** The likeliest token, and never one that begins a message; `END_ID` ends an answer. */
export const GREEDY = {
  temperature: 0,
  logitBias: new Map(SPECIAL_IDS.slice(0, 2).map((id) => [id, Number.NEGATIVE_INFINITY])),
} as const;
export const FORBIDDEN: ReadonlySet<number> = new Set(GREEDY.logitBias.keys());

/** A question and its answer take fewer. */
const ASK_TOKENS = 60;

export class Talk {
  readonly chat: Chat;
  /** Heard since the last check, oldest first. */
  heard: HeardAnswer[] = [];
  /** Of the conversation at the last check. */
  ids: readonly number[] = [];
  /** The soak disposed of it, or of its engine. */
  isGone = false;
  #running = 0;

  /** When the answers under way are over. */
  get expectedTokens(): number {
    return this.chat.tokenCount + ASK_TOKENS * this.#running;
  }

  constructor(chat: Chat) {
    this.chat = chat;
  }

  dispose(): void {
    this.isGone = true;
    this.chat.dispose();
  }

  /** Asks, and listens in the background: the world waits for it. */
  ask(world: World, message: string, options: AnswerOptions, { abortAfter, leaveAfter }: Listening = {}): void {
    const ending = new AbortController();
    const heard: HeardAnswer = { message, isGreedy: options.temperature === 0, deltas: [], isOpenEnded: options.stop !== undefined };
    let hasLeft = false;
    const abortInTime = () => {
      if (heard.deltas.length === abortAfter) ending.abort(new Error(`aborted after ${abortAfter} deltas`));
    };
    const answer = this.chat.send(message, { ...options, signal: ending.signal });
    this.heard.push(heard);
    this.#running++;
    abortInTime();
    const leave = () => {
      hasLeft = true;
      heard.isOpenEnded = true;
    };
    const listen = async () => {
      if (leaveAfter === 0) {
        leave();
        await answer[Symbol.asyncIterator]().return();
      } else await read();
      const { text } = await answer.finished;
      if (hasLeft) return;
      const texts = heard.deltas.map((delta) => delta.text);
      for (const fault of deltaFaults(texts, text)) world.fault(`answer to ${JSON.stringify(message)}: ${fault}`);
    };
    const read = async () => {
      for await (const delta of answer) {
        heard.deltas.push(delta);
        world.tokenCame();
        abortInTime();
        if (heard.deltas.length === leaveAfter) {
          leave();
          break;
        }
      }
    };
    const over = listen().finally(() => this.#running--);
    answer.finished.catch(() => undefined); // the loop throws the same
    world.track(`the answer to ${JSON.stringify(message)}`, over, {
      signal: ending.signal,
      isGone: () => this.isGone,
      hasLeft: () => hasLeft,
    });
  }
}
