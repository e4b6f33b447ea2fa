// How the next token is chosen, in the names that the field uses.
import { LlmError } from "../errors";

export interface SamplingSettings {
  /** 0: the likeliest token, always. Default 0.7. */
  readonly temperature?: number;
  /** Only the k likeliest; 0: all. Default 0. */
  readonly topK?: number;
  /** Only the likeliest that together reach this probability; 1: all. Default 1. */
  readonly topP?: number;
  /** Only those at least this share of the likeliest one's probability; 0: all. Default 0. */
  readonly minP?: number;
  /** Divides positive logits, multiplies negative ones, of tokens in prompt or answer (CTRL, arXiv 1909.05858); 1: none. Default 1. */
  readonly repetitionPenalty?: number;
  /** Taken off the logit of every token that the answer holds already. Default 0. */
  readonly presencePenalty?: number;
  /** Taken off the logit for each time that the answer holds the token. Default 0. */
  readonly frequencyPenalty?: number;
  /** Added to the logits of these tokens; -Infinity forbids one. */
  readonly logitBias?: ReadonlyMap<number, number>;
  /** Same seed, settings, prompt and device: same text. Random unless given. */
  readonly seed?: number;
}

export type ResolvedSampling = Required<SamplingSettings>;

const RANGES = {
  temperature: [0, 100],
  topK: [0, Number.MAX_SAFE_INTEGER],
  topP: [0, 1],
  minP: [0, 1],
  repetitionPenalty: [0.01, 100],
  presencePenalty: [-100, 100],
  frequencyPenalty: [-100, 100],
} as const;

/** @throws LlmError "bad-request" naming the setting that is out of range. */
export function resolveSampling(settings: SamplingSettings, vocabSize: number): ResolvedSampling {
  const resolved: ResolvedSampling = {
    temperature: settings.temperature ?? 0.7,
    topK: settings.topK ?? 0,
    topP: settings.topP ?? 1,
    minP: settings.minP ?? 0,
    repetitionPenalty: settings.repetitionPenalty ?? 1,
    presencePenalty: settings.presencePenalty ?? 0,
    frequencyPenalty: settings.frequencyPenalty ?? 0,
    logitBias: settings.logitBias ?? new Map(),
    seed: settings.seed ?? Math.floor(Math.random() * 2 ** 32),
  };
  for (const [name, [low, high]] of Object.entries(RANGES)) {
    const value = resolved[name as keyof typeof RANGES];
    if (!(value >= low && value <= high)) throw new LlmError("bad-request", `${name} is ${value}; it must lie between ${low} and ${high}.`);
  }
  if (!Number.isInteger(resolved.topK)) throw new LlmError("bad-request", `topK is ${resolved.topK}; it must be a whole number.`);
  if (!Number.isSafeInteger(resolved.seed)) throw new LlmError("bad-request", `seed is ${resolved.seed}; it must be a whole number.`);
  for (const [id, value] of resolved.logitBias) {
    if (!Number.isInteger(id) || id < 0 || id >= vocabSize || Number.isNaN(value) || value === Infinity) {
      throw new LlmError(
        "bad-request",
        `logitBias of token ${id} is ${value}; ids lie below ${vocabSize} and values are numbers below Infinity.`,
      );
    }
  }
  return resolved;
}
