// Runs one answer: sampled ids to text, up to a stop token, a stop string or a limit.
import type { EngineCore } from "../engine/engine-core";
import { LlmError } from "../errors";
import { resolveSampling, type SamplingSettings } from "../steps/sampling-settings";
import type { Sequence } from "../steps/sequence";
import { AnswerText } from "../tokens/stop-conditions";
import type { Tokenizer } from "../tokens/tokenizer";
import { Answer, type AnswerDelta, type AnswerSummary } from "./answer";

export interface AnswerOptions extends SamplingSettings {
  /** Tokens of the answer, at most. Default: until the context is full. */
  readonly maxTokens?: number;
  /** Texts that end the answer; they are not part of it. */
  readonly stop?: readonly string[];
  /** Ends the answer; what was said until then stays in the chat, and its K/V is kept. */
  readonly signal?: AbortSignal;
}

/** What an answer's turn begins and ends with. */
export interface AnswerSteps {
  /** Leaves the prompt's ids in the sequence. */
  readonly prepare: () => void;
  /** Hears the answer's text, whole or as far as it came. */
  readonly settle?: (text: string) => void;
}

/**
 * Starts an answer, which runs when its turn comes.
 *
 * @throws LlmError "bad-request" for settings out of range.
 */
export function startAnswer(
  core: EngineCore,
  tokenizer: Tokenizer,
  sequence: Sequence,
  options: AnswerOptions,
  { prepare, settle = () => undefined }: AnswerSteps,
): Answer {
  const sampling = resolveSampling(options, core.config.vocabSize);
  const { maxTokens = Number.POSITIVE_INFINITY } = options;
  if (!(maxTokens >= 0)) throw new LlmError("bad-request", `maxTokens is ${maxTokens}; it must be 0 or more.`);
  const stopIds = [...tokenizer.stopIds];
  const answerText = new AnswerText({ detokenizer: tokenizer.detokenizer(), stopIds: new Set(stopIds), stopStrings: options.stop ?? [] });
  const run = (emit: (delta: AnswerDelta) => void, signal: AbortSignal) =>
    core.takeTurn(async (generate): Promise<AnswerSummary> => {
      prepare();
      let text = "";
      let stage = core.stage;
      const add = (piece: string) => {
        if (piece === "") return;
        text += piece;
        emit({ text: piece, stage });
      };
      const onToken = (id: number, tokenStage: number) => {
        stage = tokenStage;
        add(answerText.push(id));
        return answerText.stop === null;
      };
      try {
        const result = await generate({ sequence, sampling, stopIds, maxTokens, onToken });
        add(answerText.flush());
        return { ...result, text };
      } finally {
        settle(text);
      }
    }, signal);
  return new Answer(run, options.signal);
}
