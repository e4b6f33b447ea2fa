// What must hold between the numbers of a model's configuration, whatever file they came from.
import { LlmError } from "../errors";
import type { ModelConfig } from "./model-config";

/** @returns `config`. @throws LlmError "bad-config" */
export function checkedConfig(config: ModelConfig, where: string): ModelConfig {
  const { headCount, kvHeadCount, headDim, rope, normEpsilon } = config;
  const check = (holds: boolean, message: string): void => {
    if (!holds) throw new LlmError("bad-config", `${where}: ${message}`);
  };
  check(headCount % kvHeadCount === 0, `${headCount} heads share ${kvHeadCount} K/V heads, expected a divisor of the former`);
  check(headDim % 2 === 0, `heads of ${headDim} dimensions, expected an even number: rotary embedding turns pairs`);
  check(
    rope.dimensions % 2 === 0 && rope.dimensions <= headDim,
    `${rope.dimensions} rotary dimensions, expected an even number of at most ${headDim}, the dimensions of a head`,
  );
  check(normEpsilon < 1, `normalisation epsilon ${normEpsilon}, expected less than 1`);
  return config;
}
