// A conversation: messages in, answers out, its tokens and K/V kept from turn to turn.
import { type LinkedAbort, linkAbort } from "../bytes/abort";
import { LlmError } from "../errors";
import type { Sequence } from "../steps/sequence";
import type { RestoreReport } from "../takeover/restore";
import type { Tokenizer } from "../tokens/tokenizer";
import { Answer, type AnswerDelta, type AnswerSummary } from "./answer";
import { type AnswerOptions, AnswerRun } from "./answer-run";
import type { ChatCore } from "./chat-core";
import { type RestoredFrom, usablePart } from "./chat-restore";
import { ChatSnapshot } from "./chat-snapshot";
import { quote } from "./quote";
import { checkMessages, checkOptions, checkText } from "./request-checks";
import {
  endTurn,
  markOf,
  nextPrompt,
  sharedLength,
  type TranscriptCodec,
  type TranscriptMessage,
  type TranscriptPrompt,
  type TranscriptTurn,
  type TurnMark,
  turnAt,
} from "./transcript";
import { TurnOrder } from "./turn-order";

export interface ChatOptions {
  /** What the model is told before the first message. Default: the template's own system message, if it has one. */
  readonly system?: string;
  /** A conversation to go on from, oldest first. */
  readonly messages?: readonly TranscriptMessage[];
}

export type ChatEvent = TranscriptRewritten | ChatRestored;

/** A chat goes on from a snapshot. */
export interface ChatRestored {
  readonly type: "chat-restored";
  /**
   * What of the snapshot this engine can use. "kv": K/V, at least in part. "ids": the tokens; their K/V is computed with the next answer, since other
   * weights or another format wrote it. "messages": only the text, which is tokenised with the next answer, since the snapshot has another tokenizer's
   * tokens, or is of an earlier version.
   */
  readonly from: RestoredFrom;
  /** Tokens taken over: 0 where only the messages were. */
  readonly tokens: number;
  /** Of them, those whose K/V came back in at least one layer. */
  readonly restoredPositions: number;
  readonly restoredBytes: number;
  /** For each layer what became of its K/V, and of how many positions. Empty where no K/V fits. */
  readonly layers: RestoreReport["layers"];
}

interface TranscriptRewritten {
  /**
   * The template renders earlier turns differently than before (some remove reasoning, or write the date), so the conversation was tokenised again.
   * K/V of the first `keptTokens` of the prompt's tokens is kept.
   */
  readonly type: "transcript-rewritten";
  readonly keptTokens: number;
  readonly promptTokens: number;
}

export class Chat implements Disposable {
  readonly #core: ChatCore;
  readonly #tokenizer: Tokenizer;
  readonly #sequence: Sequence;
  readonly #codec: TranscriptCodec;
  readonly #onEvent: (event: ChatEvent) => void;
  readonly #order = new TurnOrder();
  /** What was asked for and is not over. */
  readonly #pending = new Set<LinkedAbort>();
  #messages: readonly TranscriptMessage[];
  #turn: TranscriptTurn | null = null;
  /** Of the turns that the latest one continues, itself included, oldest first. */
  #marks: readonly TurnMark[] = [];
  #isDisposed = false;

  constructor(core: ChatCore, tokenizer: Tokenizer, onEvent: (event: ChatEvent) => void, options: ChatOptions = {}) {
    checkOptions(options, { system: "text", messages: "messages" }, "createChat");
    checkMessages(options.messages ?? []);
    this.#core = core;
    this.#onEvent = onEvent;
    this.#tokenizer = tokenizer;
    this.#codec = {
      render: (messages) => tokenizer.renderChat(messages, { addGenerationPrompt: true }),
      encode: (text) => tokenizer.encode(text, { addSpecialTokens: false }),
      encodeMore: (text) => tokenizer.encode(text, { addSpecialTokens: false, continuesText: true }),
      decode: (ids) => tokenizer.decode(ids),
      stopText: (id) => (tokenizer.stopIds.has(id) ? tokenizer.decode([id], { skipSpecialTokens: false }) : null),
    };
    this.#messages = [
      ...(options.system === undefined ? [] : [{ role: "system" as const, content: options.system }]),
      ...(options.messages ?? []),
    ];
    this.#sequence = core.createSequence();
  }

  /** What was said, oldest first. It has the question of an answer under way, and the answer once that is over. */
  get messages(): readonly TranscriptMessage[] {
    return this.#messages;
  }

  /** Tokens of the conversation, those of an answer under way included. */
  get tokenCount(): number {
    return this.#sequence.tokens.length;
  }

  /**
   * Says `text` and starts the answer. A chat's answers run one after another, in the order of the calls; different chats answer at the same time.
   *
   * An answer that is aborted or fails after its first text stays in the conversation as far as it came. One that ends before its first text leaves
   * the conversation as it was, without the question: asking again asks once. When the context is full, the answer ends with `finishReason:
   * "context"`; every further `send` then adds its question and an empty answer.
   *
   * @throws LlmError "bad-request" for an unknown option or a setting out of range, "disposed". The answer rejects with these too, with the
   * signal's reason, with "device-lost" where the device does not come back, and with "bad-request" where the template refuses the conversation.
   */
  send(text: string, options: AnswerOptions = {}): Answer {
    this.#checkAlive();
    checkText(text, "The message", "Give earlier messages to engine.createChat({ messages }).");
    const run = new AnswerRun(this.#core, this.#tokenizer, options, { what: "send" });
    return new Answer((emit, ending) => this.#inOrder((signal) => this.#answer(text, run, emit, signal), ending), options.signal);
  }

  /**
   * Forgets the messages from index `messageIndex` of `messages` on, when what was asked for before is over. K/V of what stays is kept. To edit a
   * question: truncate at its index, then send it again. With 0 the system message goes too; an index past the end forgets nothing.
   *
   * @throws LlmError "bad-request" for an index that is no whole number, "disposed".
   */
  async truncate(messageIndex: number): Promise<void> {
    this.#checkAlive();
    if (!Number.isInteger(messageIndex) || messageIndex < 0) {
      throw new LlmError("bad-request", `messageIndex is ${quote(messageIndex)}; expected a whole number, 0 or more.`);
    }
    await this.#inOrder(async () => {
      if (messageIndex >= this.#messages.length) return;
      this.#marks = this.#marks.filter(({ messageCount }) => messageCount <= messageIndex);
      const mark = this.#marks.at(-1);
      this.#turn = mark && this.#turn ? turnAt(this.#turn, mark) : null;
      this.#messages = this.#messages.slice(0, messageIndex);
      this.#dropOtherTokens();
    });
  }

  /**
   * The conversation and its K/V in CPU memory, as it is when all that was asked for before is over; what is asked for later is not in it. Go on from
   * it with `engine.restoreChat`: later, in another page (`toBytes`), or several times. While a lost device is being replaced, it waits.
   *
   * @throws LlmError "disposed" | "out-of-memory" | "device-lost" when the device is lost while K/V is copied; the signal's reason.
   */
  async snapshot(options: { readonly signal?: AbortSignal } = {}): Promise<ChatSnapshot> {
    this.#checkAlive();
    checkOptions(options, { signal: "signal" }, "snapshot");
    return this.#inOrder(async (signal) => {
      const kv = await this.#core.snapshot(this.#sequence, signal);
      return new ChatSnapshot({ identity: this.#core.identity, messages: this.#messages, turn: this.#turn, kv });
    }, options.signal);
  }

  /** Takes over a snapshot's conversation, as far as the engine can use it. @internal */
  restore(snapshot: ChatSnapshot): Promise<Omit<ChatRestored, "type">> {
    return this.#inOrder(async (signal) => {
      const { messages, turn, kv } = snapshot;
      this.#messages = messages;
      const from = usablePart(snapshot, this.#core);
      if (from === "messages") return { from, tokens: 0, restoredPositions: 0, restoredBytes: 0, layers: [] };
      this.#turn = turn;
      this.#marks = turn ? [markOf(turn, messages.findLastIndex(({ role }) => role === "assistant") + 1)] : [];
      this.#sequence.replaceTokens(kv.ids);
      const tokens = kv.ids.length;
      if (from === "ids") return { from, tokens, restoredPositions: 0, restoredBytes: 0, layers: [] };
      const { layers, restoredBytes } = await this.#core.restore(this.#sequence, kv, signal);
      const restoredPositions = Math.max(0, ...layers.map(({ positions }) => positions));
      return { from: restoredPositions > 0 ? "kv" : "ids", tokens, restoredPositions, restoredBytes, layers };
    });
  }

  /** Frees the K/V; what is under way fails with "disposed". */
  dispose(): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    for (const pending of this.#pending) pending.abort(disposedError());
    this.#core.releaseSequence(this.#sequence);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #checkAlive(): void {
    if (this.#isDisposed) throw disposedError();
  }

  /** Runs `task` after what was asked for before. Its signal aborts with the caller's, and when the chat is disposed of. */
  async #inOrder<T>(task: (signal: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const pending = linkAbort(signal);
    this.#pending.add(pending);
    try {
      return await this.#order.run(() => task(pending.signal), pending.signal);
    } finally {
      this.#pending.delete(pending);
      pending.unlink();
    }
  }

  async #answer(text: string, run: AnswerRun, emit: (delta: AnswerDelta) => void, signal: AbortSignal): Promise<AnswerSummary> {
    const before = this.#messages;
    const messages = [...before, { role: "user" as const, content: text }];
    const prompt = nextPrompt(this.#codec, messages, this.#turn);
    this.#messages = messages;
    this.#sequence.replaceTokens(prompt.ids);
    if (!prompt.isContinued) {
      this.#onEvent({ type: "transcript-rewritten", keptTokens: this.#sequence.cachedLength, promptTokens: prompt.ids.length });
    }
    try {
      const summary = await run.generate(this.#sequence, emit, signal);
      this.#endTurn(prompt, run.text);
      return summary;
    } catch (error) {
      if (run.text === "") {
        this.#messages = before;
        this.#dropOtherTokens();
      } else {
        this.#endTurn(prompt, run.text);
      }
      throw error;
    }
  }

  /** Tokens that the answer does not say, a stop string's, do not stay in the sequence. */
  #endTurn(prompt: TranscriptPrompt, answer: string): void {
    this.#messages = [...this.#messages, { role: "assistant", content: answer }];
    this.#turn = endTurn(this.#codec, prompt, this.#sequence.tokens.slice(prompt.ids.length), answer);
    this.#marks = [...(prompt.isContinued ? this.#marks : []), markOf(this.#turn, this.#messages.length)];
    this.#sequence.truncate(this.#turn.ids.length);
  }

  /** Leaves in the sequence only tokens of the messages that there are. */
  #dropOtherTokens(): void {
    if (this.#turn) this.#sequence.replaceTokens(this.#turn.ids);
    else if (this.#messages.length === 0) this.#sequence.truncate(0);
    else this.#sequence.truncate(sharedLength(this.#codec, this.#messages, this.#sequence.tokens));
  }
}

function disposedError(): LlmError {
  return new LlmError("disposed", "This chat was disposed. Create another with engine.createChat.");
}
