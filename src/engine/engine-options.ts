// How an engine shares out its memory, and how it runs: the caller's options, checked, with what stands where there are none.
import { LlmError } from "../errors";
import type { KvFormat } from "../kv/kv-cache";
import type { ModelConfig } from "../weights/model-config";

export interface EngineOptions {
  /** Positions that a conversation can have. Default: what the model was made for, at most 4096. */
  readonly contextLength?: number;
  /** Positions in the K/V pool, shared by all chats. Default: contextLength. */
  readonly poolLength?: number;
  /** Positions in a page: 16, 32, 64 or 128. Default 64. */
  readonly pageSize?: number;
  /** K/V as stored; f16 by default. */
  readonly kvFormat?: KvFormat;
  /** Rows of a prefill chunk, at most. Default 256. */
  readonly chunkRows?: number;
  /** Decode steps submitted ahead of the CPU. Default 4. */
  readonly stepsAhead?: number;
  /** Conversations that begin alike share the K/V of their beginnings, also with those that are over, as long as there is room. Default true. */
  readonly prefixCache?: boolean;
}

export type ResolvedEngineOptions = Required<EngineOptions>;

const DEFAULT_CONTEXT = 4096;
const PAGE_SIZES = [16, 32, 64, 128];
const KV_FORMATS = ["f16", "f32"];
const MAX_POOL = 2 ** 24; // no device binds a layer's keys of more positions
const MAX_CHUNK_ROWS = 4096; // a chunk is to be felt by an abort, and activations take memory for each row
const MAX_STEPS_AHEAD = 64;

/** @throws LlmError "bad-request" naming the option that is out of range. */
export function resolveEngineOptions(options: EngineOptions, { maxPositions }: ModelConfig): ResolvedEngineOptions {
  const contextLength = options.contextLength ?? Math.min(maxPositions, DEFAULT_CONTEXT);
  const resolved: ResolvedEngineOptions = {
    contextLength,
    poolLength: options.poolLength ?? contextLength,
    pageSize: options.pageSize ?? 64,
    kvFormat: options.kvFormat ?? "f16",
    chunkRows: options.chunkRows ?? 256,
    stepsAhead: options.stepsAhead ?? 4,
    prefixCache: options.prefixCache ?? true,
  };
  checkWhole("contextLength", contextLength, 1, maxPositions, "this model's positions");
  checkWhole("poolLength", resolved.poolLength, contextLength, MAX_POOL, "at least contextLength");
  checkWhole("chunkRows", resolved.chunkRows, 1, MAX_CHUNK_ROWS);
  checkWhole("stepsAhead", resolved.stepsAhead, 1, MAX_STEPS_AHEAD);
  checkChoice("pageSize", resolved.pageSize, PAGE_SIZES);
  checkChoice("kvFormat", resolved.kvFormat, KV_FORMATS);
  return resolved;
}

function checkWhole(name: string, value: number, low: number, high: number, why?: string): void {
  if (Number.isInteger(value) && value >= low && value <= high) return;
  throw new LlmError("bad-request", `${name} is ${value}; expected a whole number from ${low} to ${high}${why ? ` (${why})` : ""}.`);
}

function checkChoice<T>(name: string, value: T, choices: readonly T[]): void {
  if (!choices.includes(value)) throw new LlmError("bad-request", `${name} is ${value}; expected ${choices.join(" or ")}.`);
}
