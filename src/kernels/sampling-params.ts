// The settings of sampling in the kernels' layout: SamplingParams of shaders/include/sampling.wgsl.
import { assert } from "../assert";
import { LlmError } from "../errors";

/** Settings whose ranges have been checked. */
export interface SamplingParams {
  /** 0: greedy. */
  readonly temperature: number;
  /** 0: off. */
  readonly topK: number;
  /** 1: off. */
  readonly topP: number;
  /** 0: off. */
  readonly minP: number;
  /** 1: none. */
  readonly repetitionPenalty: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  /** An integer; its low 64 bits count. */
  readonly seed: number;
}

export const MAX_STOP_IDS = 64;
const STOP_IDS_AT = 10; // words

export const SAMPLING_PARAMS_BYTES = (STOP_IDS_AT + MAX_STOP_IDS) * 4;

/** In `counts`, marks a token of the prompt. The other bits count the token in the answer. */
export const IN_PROMPT = 0x80000000;

/** @throws LlmError "bad-request" if a request has more stop tokens than its settings hold. */
export function checkStopIds(stopIds: readonly number[]): void {
  if (stopIds.length <= MAX_STOP_IDS) return;
  throw new LlmError("bad-request", `${stopIds.length} stop tokens were given; at most ${MAX_STOP_IDS} are possible. Give fewer.`);
}

/** `stopIds`: the tokens that end the run. @throws LlmError "bad-request" if there are too many. */
export function encodeSamplingParams(params: SamplingParams, stopIds: readonly number[]): ArrayBuffer {
  assert(Number.isSafeInteger(params.seed), `the seed ${params.seed} is no integer`);
  checkStopIds(stopIds);
  const bytes = new ArrayBuffer(SAMPLING_PARAMS_BYTES);
  const floats = new Float32Array(bytes);
  const words = new Uint32Array(bytes);
  floats[0] = params.temperature;
  words[1] = Math.min(params.topK, 0xffffffff);
  floats[2] = params.topP;
  floats[3] = params.minP;
  floats[4] = params.repetitionPenalty;
  floats[5] = params.presencePenalty;
  floats[6] = params.frequencyPenalty;
  words[7] = params.seed % 2 ** 32; // modulo 2³² by the array's conversion, also where negative
  words[8] = Math.floor(params.seed / 2 ** 32);
  words[9] = stopIds.length;
  words.set(stopIds, STOP_IDS_AT);
  return bytes;
}
