// First half of sampling: applies penalties and finds the candidates of each chunk of the vocabulary.
import wgsl from "../../shaders/sample-candidates.wgsl?raw";
import { assert } from "../assert";
import { defineKernel } from "../gpu/kernel";
import type { StepShape } from "./step-shape";

export interface SamplingOptions {
  /** Number of tokens, up to 262,144. */
  readonly vocab: number;
}

type Binding = "state" | "params" | "logits" | "bias" | "counts" | "candidates" | "chunks";

/**
 * Samples the last rows of the step, as many as the shape has. For each slot, `params`: `encodeSamplingParams`; `bias`: f32 [vocab], added to the logits,
 * −∞ forbids a token; `counts`: u32 [vocab], see `IN_PROMPT`. For each row, `logits`: f32 [vocab], changed in place; `candidates` and `chunks`:
 * `candidateBytes`, `chunkBytes`.
 */
export const sampleCandidates = defineKernel<Binding, SamplingOptions, StepShape>({
  name: "sample-candidates",
  wgsl,
  bindings: ["state", "params", "logits", "bias", "counts", "candidates", "chunks"],
  variant({ vocab }) {
    return { defines: {}, constants: { VOCAB: vocab } };
  },
  workgroups: ({ vocab }, { rows }) => [chunkCount(vocab), rows, 1],
});

const CHUNK_SIZE = 1024;
export const CHUNK_BEST = 64;
const MAX_CHUNKS = 256; // a thread of sample-pick merges one chunk

export function chunkCount(vocab: number): number {
  const count = Math.ceil(vocab / CHUNK_SIZE);
  assert(count <= MAX_CHUNKS, `a vocabulary of ${vocab}; sampling holds up to ${MAX_CHUNKS * CHUNK_SIZE}`);
  return count;
}

/** Bytes of a row's `candidates`: 64 for each chunk, each a rank and an id. */
export function candidateBytes(vocab: number): number {
  return chunkCount(vocab) * CHUNK_BEST * 8;
}

/** Bytes of a row's `chunks`: six words for each. */
export function chunkBytes(vocab: number): number {
  return chunkCount(vocab) * 24;
}

export const sampleCandidatesVariants: readonly SamplingOptions[] = [{ vocab: 49_152 }];
