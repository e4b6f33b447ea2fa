// A conversation: messages in, answers out, its tokens and K/V kept from turn to turn.
import type { EngineCore } from "../engine/engine-core";
import type { Sequence } from "../engine/sequence";
import type { Tokenizer } from "../tokens/tokenizer";
import type { Answer } from "./answer";
import { type AnswerOptions, startAnswer } from "./answer-run";
import { nextPrompt, type TranscriptCodec, type TranscriptMessage, type TranscriptTurn } from "./transcript";

export interface ChatOptions {
  /** What the model is told before the first message. Unless given, the template's own, if it has one. */
  readonly system?: string;
  /** A conversation to go on from, oldest first. */
  readonly messages?: readonly TranscriptMessage[];
}

export class Chat implements Disposable {
  readonly #core: EngineCore;
  readonly #tokenizer: Tokenizer;
  readonly #sequence: Sequence;
  readonly #codec: TranscriptCodec;
  readonly #messages: TranscriptMessage[];
  #turn: TranscriptTurn | null = null;

  constructor(core: EngineCore, tokenizer: Tokenizer, options: ChatOptions) {
    this.#core = core;
    this.#tokenizer = tokenizer;
    this.#codec = {
      render: (messages) => tokenizer.renderChat(messages, { addGenerationPrompt: true }),
      encode: (text) => tokenizer.encode(text, { addSpecialTokens: false }),
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
   * @throws LlmError "bad-request" for settings out of range; from the answer, also "device-lost" and "disposed".
   */
  send(text: string, options: AnswerOptions = {}): Answer {
    let promptText = "";
    const prepare = () => {
      this.#messages.push({ role: "user", content: text });
      const prompt = nextPrompt(this.#codec, this.#messages, this.#turn);
      promptText = prompt.text;
      this.#sequence.replaceTokens(prompt.ids);
    };
    const settle = (answer: string) => {
      if (promptText === "") return; // it never began
      this.#messages.push({ role: "assistant", content: answer });
      this.#turn = { promptText, ids: [...this.#sequence.tokens] };
    };
    return startAnswer(this.#core, this.#tokenizer, this.#sequence, options, prepare, settle);
  }

  /** Frees the K/V. */
  dispose(): void {
    this.#core.releaseSequence(this.#sequence);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
