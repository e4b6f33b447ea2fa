// Runs one answer: sampled ids to text, up to a stop token, a stop string or a limit.
import { checkStopIds } from "../kernels/sampling-params";
import { type ResolvedSampling, resolveSampling, type SamplingSettings } from "../steps/sampling-settings";
import type { Sequence } from "../steps/sequence";
import { AnswerText } from "../tokens/stop-conditions";
import type { Tokenizer } from "../tokens/tokenizer";
import type { AnswerDelta, AnswerSummary } from "./answer";
import type { ChatCore } from "./chat-core";
import { checkOptions, type OptionForms, SAMPLING_FORMS } from "./request-checks";

export interface AnswerOptions extends SamplingSettings {
  /** Tokens of the answer, at most. Default: until the context is full. */
  readonly maxTokens?: number;
  /** A text, or several, that end the answer; they are not part of it. */
  readonly stop?: string | readonly string[];
  /** Ends the answer; what was said until then stays in the chat, and its K/V is kept. */
  readonly signal?: AbortSignal;
}

const ANSWER_FORMS: OptionForms<AnswerOptions> = { ...SAMPLING_FORMS, maxTokens: "whole", stop: "texts", signal: "signal" };

export interface AnswerPlace {
  /** Names the call in error messages: "send". */
  readonly what: string;
  /** The answer continues a text, so that a space at its start is part of it. */
  readonly continuesText?: boolean;
}

/** Checked when it is made; then runs once. */
export class AnswerRun {
  readonly #core: ChatCore;
  readonly #sampling: ResolvedSampling;
  readonly #maxTokens: number;
  readonly #stopIds: readonly number[];
  readonly #answerText: AnswerText;
  #text = "";

  /** @throws LlmError "bad-request" for unknown options, settings out of range, an empty stop string, too many stop tokens. */
  constructor(core: ChatCore, tokenizer: Tokenizer, options: AnswerOptions, { what, continuesText = false }: AnswerPlace) {
    checkOptions(options, ANSWER_FORMS, what);
    const { maxTokens = Number.POSITIVE_INFINITY, stop = [] } = options;
    this.#core = core;
    this.#sampling = resolveSampling(options, core.config.vocabSize);
    this.#maxTokens = maxTokens;
    this.#stopIds = [...tokenizer.stopIds];
    checkStopIds(this.#stopIds);
    this.#answerText = new AnswerText({
      detokenizer: tokenizer.detokenizer({ continuesText }),
      stopIds: tokenizer.stopIds,
      stopStrings: typeof stop === "string" ? [stop] : stop,
    });
  }

  /** What was said so far. */
  get text(): string {
    return this.#text;
  }

  /** Continues the sequence's tokens. Rejects as `core.generate` does; `text` then is what was said until then. */
  async generate(sequence: Sequence, emit: (delta: AnswerDelta) => void, signal: AbortSignal): Promise<AnswerSummary> {
    let lastStage = this.#core.stage;
    const say = (text: string) => {
      if (text === "") return;
      this.#text += text;
      emit({ text, stage: lastStage });
    };
    const result = await this.#core.generate({
      sequence,
      sampling: this.#sampling,
      stopIds: this.#stopIds,
      maxTokens: this.#maxTokens,
      signal,
      onToken: (id, stage) => {
        lastStage = stage;
        say(this.#answerText.push(id));
        return this.#answerText.stop === null;
      },
    });
    say(this.#answerText.flush());
    return { ...result, text: this.#text };
  }
}
