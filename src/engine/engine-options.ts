// How an engine shares out its memory, and how it runs: the caller's options, checked, with what stands where there are none.
import { LlmError } from "../errors";
import type { KvFormat } from "../kv/kv-cache";
import { activationStrides, MAX_BATCH } from "../model/scratch";
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
  /** Rows of a prefill chunk, at most; how many there are follows the device's speed. Default: 1024, fewer where they would take over 64 MiB. */
  readonly chunkRows?: number;
  /**
   * What prefill's products take activations as. "int8": on a device without matrix units that a page may use, and where weights are q8, q4 or q4 with a
   * minimum, as bytes with a scale for every 32. Products are twice as fast and off by up to 0.7 % of their largest output: on a 64M model 0.002 nats (KL) to
   * the exact logits, and the same first choice in 95.6 %. Decode stays exact. Default "float".
   */
  readonly prefillActivations?: "float" | "int8";
  /** Chunks of up to so many rows go through the kernels of decode, a row each. Default: by the device, 16 on most. */
  readonly vectorRows?: number;
  /** Sequences that decode in one step, 1 to 8; further requests wait. Each takes memory for a row of logits. Default 8. */
  readonly batchSize?: number;
  /** Decode steps submitted ahead of the CPU. Default 4. */
  readonly stepsAhead?: number;
  /** Conversations that begin alike share the K/V of their beginnings, also with those that are over, as long as there is room. Default true. */
  readonly prefixCache?: boolean;
}

/** `vectorRows` is null where the device decides. */
export type ResolvedEngineOptions = Required<Omit<EngineOptions, "vectorRows">> & { readonly vectorRows: number | null };

const DEFAULT_CONTEXT = 4096;
const PAGE_SIZES = [16, 32, 64, 128];
const KV_FORMATS = ["f16", "f32"];
const PREFILL_ACTIVATIONS = ["float", "int8"];
const MAX_POOL = 2 ** 24; // no device binds a layer's keys of more positions
const MAX_CHUNK_ROWS = 4096; // a chunk is to be felt by an abort, and activations take memory for each row
const MAX_VECTOR_ROWS = 64; // attention's sums take memory for each row and split of the context
const MAX_STEPS_AHEAD = 64;

/** @throws LlmError "bad-request" naming the option that is out of range. */
export function resolveEngineOptions(options: EngineOptions, config: ModelConfig): ResolvedEngineOptions {
  const { maxPositions } = config;
  const contextLength = options.contextLength ?? Math.min(maxPositions, DEFAULT_CONTEXT);
  const resolved: ResolvedEngineOptions = {
    contextLength,
    poolLength: options.poolLength ?? contextLength,
    pageSize: options.pageSize ?? 64,
    kvFormat: options.kvFormat ?? "f16",
    chunkRows: options.chunkRows ?? defaultChunkRows(config),
    prefillActivations: options.prefillActivations ?? "float",
    vectorRows: options.vectorRows ?? null,
    batchSize: options.batchSize ?? MAX_BATCH,
    stepsAhead: options.stepsAhead ?? 4,
    prefixCache: options.prefixCache ?? true,
  };
  checkWhole("contextLength", contextLength, 1, maxPositions, "this model's positions");
  checkWhole("poolLength", resolved.poolLength, contextLength, MAX_POOL, "at least contextLength");
  checkWhole("chunkRows", resolved.chunkRows, 1, MAX_CHUNK_ROWS);
  checkWhole("vectorRows", resolved.vectorRows ?? 1, 1, MAX_VECTOR_ROWS);
  checkWhole("batchSize", resolved.batchSize, 1, MAX_BATCH);
  checkWhole("stepsAhead", resolved.stepsAhead, 1, MAX_STEPS_AHEAD);
  checkChoice("pageSize", resolved.pageSize, PAGE_SIZES);
  checkChoice("kvFormat", resolved.kvFormat, KV_FORMATS);
  checkChoice("prefillActivations", resolved.prefillActivations, PREFILL_ACTIVATIONS);
  return resolved;
}

const DEFAULT_CHUNK_ROWS = 1024;
const DEFAULT_CHUNK_BYTES = 64 * 2 ** 20;

/** What activations take grows with the rows of a chunk, as its speed does. */
function defaultChunkRows(config: ModelConfig): number {
  const { hidden, qkv, attention, mlp } = activationStrides(config);
  const rowBytes = (2 * hidden + qkv + attention + mlp) * 4;
  return Math.min(DEFAULT_CHUNK_ROWS, 2 ** Math.floor(Math.log2(DEFAULT_CHUNK_BYTES / rowBytes)));
}

function checkWhole(name: string, value: number, low: number, high: number, why?: string): void {
  if (Number.isInteger(value) && value >= low && value <= high) return;
  throw new LlmError("bad-request", `${name} is ${value}; expected a whole number from ${low} to ${high}${why ? ` (${why})` : ""}.`);
}

function checkChoice<T>(name: string, value: T, choices: readonly T[]): void {
  if (!choices.includes(value)) throw new LlmError("bad-request", `${name} is ${value}; expected ${choices.join(" or ")}.`);
}
