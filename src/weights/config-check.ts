// What must hold between the numbers of a model's configuration, whatever file they came from, and which of them our kernels can do.
import { LlmError, type LlmErrorCode } from "../errors";
import type { ModelConfig } from "./model-config";

// What src/kernels asserts of shapes; a property test holds the two together.
const HEAD_DIM_MULTIPLE = 16;
const MAX_HEAD_DIM = 256;
const ROPE_MULTIPLE = 8;
const HIDDEN_MULTIPLE = 4;
const MAX_VOCABULARY = 262_144; // sampling merges 256 chunks of 1,024
const MAX_COLUMNS = 524_288; // 64 rows, the fewest that a matrix is split into, of so many floats are 128 MiB: what every device binds

/** @returns `config`. @throws LlmError "bad-config" for numbers that contradict each other; "unsupported" for a shape that no kernel can do. */
export function checkedConfig(config: ModelConfig, where: string): ModelConfig {
  checkConsistent(config, where);
  checkSupported(config, where);
  return config;
}

type Check = (holds: boolean, message: string) => void;

function checker(code: LlmErrorCode, where: string, advice = ""): Check {
  return (holds, message) => {
    if (!holds) throw new LlmError(code, `${where}: ${message}${advice}`);
  };
}

function checkConsistent({ headCount, kvHeadCount, headDim, rope, normEpsilon }: ModelConfig, where: string): void {
  const check = checker("bad-config", where);
  check(headCount % kvHeadCount === 0, `${headCount} heads share ${kvHeadCount} K/V heads, expected a divisor of the former`);
  check(headDim % 2 === 0, `heads of ${headDim} dimensions, expected an even number: rotary embedding turns pairs`);
  check(
    rope.dimensions % 2 === 0 && rope.dimensions <= headDim,
    `${rope.dimensions} rotary dimensions, expected an even number of at most ${headDim}, the dimensions of a head`,
  );
  check(normEpsilon < 1, `normalisation epsilon ${normEpsilon}, expected less than 1`);
}

function checkSupported({ hiddenSize, headCount, headDim, rope, intermediateSize, vocabSize }: ModelConfig, where: string): void {
  const check = checker("unsupported", where, ". Use another model: this one's shape is not supported.");
  const checkMultiple = (what: string, value: number, multiple: number) =>
    check(value > 0 && value % multiple === 0, `${what} is ${value}, expected a multiple of ${multiple}`);
  const checkMost = (what: string, value: number, most: number) =>
    check(value <= most, `${what} is ${value.toLocaleString("en")}, expected at most ${most.toLocaleString("en")}`);
  checkMultiple("the number of dimensions of a head", headDim, HEAD_DIM_MULTIPLE);
  checkMost("the number of dimensions of a head", headDim, MAX_HEAD_DIM);
  checkMultiple("the number of rotary dimensions of a head", rope.dimensions, ROPE_MULTIPLE);
  checkMultiple("the hidden size", hiddenSize, HIDDEN_MULTIPLE);
  checkMost("the hidden size", hiddenSize, MAX_COLUMNS);
  checkMost("the width of attention (heads × dimensions)", headCount * headDim, MAX_COLUMNS);
  checkMost("the intermediate size", intermediateSize, MAX_COLUMNS);
  checkMost("the number of tokens in the vocabulary", vocabSize, MAX_VOCABULARY);
}
