// A conversation: messages in, answers out, its tokens and K/V kept from turn to turn.
import { present } from "../assert";
import { type LinkedAbort, linkAbort } from "../bytes/abort";
import type { EngineCore } from "../engine/engine-core";
import { LlmError } from "../errors";
import type { Sequence } from "../steps/sequence";
import type { RestoreReport } from "../takeover/restore";
import type { Tokenizer } from "../tokens/tokenizer";
import type { Answer } from "./answer";
import { type AnswerOptions, startAnswer } from "./answer-run";
import { ChatSnapshot } from "./chat-snapshot";
import {
  endTurn,
  nextPrompt,
  type TranscriptCodec,
  type TranscriptMessage,
  type TranscriptPrompt,
  type TranscriptTurn,
} from "./transcript";

export interface ChatOptions {
  /** What the model is told before the first message. Unless given, the template's own, if it has one. */
  readonly system?: string;
  /** A conversation to go on from, oldest first. */
  readonly messages?: readonly TranscriptMessage[];
}

export type ChatEvent = TranscriptRewritten | ChatRestored;

/** A chat goes on from a snapshot. */
interface ChatRestored {
  readonly type: "chat-restored";
  readonly tokens: number;
  /** Of them, those whose K/V came back in some layers. */
  readonly restoredPositions: number;
  readonly restoredBytes: number;
  /** For each layer what became of its K/V, and of how many positions. */
  readonly layers: RestoreReport["layers"];
}

interface TranscriptRewritten {
  /**
   * The template renders earlier turns otherwise than it did (some take reasoning out, or write the date), so the conversation was
   * tokenised anew: of the prompt's tokens the first `keptTokens` are those whose K/V is there.
   */
  readonly type: "transcript-rewritten";
  readonly keptTokens: number;
  readonly promptTokens: number;
}

export class Chat implements Disposable {
  readonly #core: EngineCore;
  readonly #tokenizer: Tokenizer;
  readonly #sequence: Sequence;
  readonly #codec: TranscriptCodec;
  readonly #onEvent: (event: ChatEvent) => void;
  readonly #answers = new Set<LinkedAbort>();
  #messages: readonly TranscriptMessage[];
  #turn: TranscriptTurn | null = null;
  #isDisposed = false;

  constructor(core: EngineCore, tokenizer: Tokenizer, onEvent: (event: ChatEvent) => void, options: ChatOptions) {
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

  /** What was said, oldest first; an answer under way is not part of it yet. */
  get messages(): readonly TranscriptMessage[] {
    return this.#messages;
  }

  /** Tokens of the conversation so far. */
  get tokenCount(): number {
    return this.#sequence.tokens.length;
  }

  /**
   * Says `text` and starts the answer, which runs when those asked for before are done.
   *
   * @throws LlmError "bad-request" for settings out of range, "disposed"; from the answer, also "device-lost", and "bad-request" where the
   * template refuses the conversation, which then stays as it was.
   */
  send(text: string, options: AnswerOptions = {}): Answer {
    if (this.#isDisposed) throw disposedError();
    let prompt: TranscriptPrompt | null = null;
    const prepare = () => {
      const messages = [...this.#messages, { role: "user" as const, content: text }];
      prompt = this.#begin(nextPrompt(this.#codec, messages, this.#turn));
      this.#messages = messages;
    };
    const settle = (answer: string) => this.#end(present(prompt, "prompt"), answer);
    const ending = linkAbort(options.signal);
    const answer = startAnswer(this.#core, this.#tokenizer, this.#sequence, { ...options, signal: ending.signal }, { prepare, settle });
    this.#answers.add(ending);
    const forget = () => {
      this.#answers.delete(ending);
      ending.unlink();
    };
    answer.finished.then(forget, forget);
    return answer;
  }

  /**
   * The conversation and its K/V in CPU memory, when answers under way are over: to go on from it later with `engine.restoreChat`, here or after
   * the page is loaded again (`toBytes`), or to go on from it twice.
   *
   * @throws LlmError "disposed" | "device-lost" | "out-of-memory"; the signal's reason.
   */
  async snapshot({ signal }: { readonly signal?: AbortSignal } = {}): Promise<ChatSnapshot> {
    if (this.#isDisposed) throw disposedError();
    const kv = await this.#core.snapshot(this.#sequence, signal);
    return new ChatSnapshot(this.#messages, this.#turn, kv);
  }

  /** Takes over a snapshot's conversation. What of its K/V no longer fits (other weights, another stage) is computed with the next answer. @internal */
  async restore({ messages, turn, kv }: ChatSnapshot): Promise<RestoreReport> {
    this.#messages = messages;
    this.#turn = turn;
    this.#sequence.replaceTokens(kv.ids);
    return this.#core.restore(this.#sequence, kv);
  }

  /** Frees the K/V; answers under way fail with "disposed". */
  dispose(): void {
    this.#isDisposed = true;
    for (const answer of this.#answers) answer.abort(disposedError());
    void this.#core.releaseSequence(this.#sequence);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #begin(prompt: TranscriptPrompt): TranscriptPrompt {
    this.#sequence.replaceTokens(prompt.ids);
    if (!prompt.isContinued) {
      this.#onEvent({ type: "transcript-rewritten", keptTokens: this.#sequence.cachedLength, promptTokens: prompt.ids.length });
    }
    return prompt;
  }

  /** What the answer does not say, a stop string's tokens, does not stay in the sequence either. */
  #end(prompt: TranscriptPrompt, answer: string): void {
    this.#messages = [...this.#messages, { role: "assistant", content: answer }];
    this.#turn = endTurn(this.#codec, prompt, this.#sequence.tokens.slice(prompt.ids.length), answer);
    this.#sequence.truncate(this.#turn.ids.length);
  }
}

function disposedError(): LlmError {
  return new LlmError("disposed", "This chat was disposed. Create another with engine.createChat.");
}
