// Second half of sampling: picks the token and writes the row that the next step starts from.
import wgsl from "../../shaders/sample-pick.wgsl?raw";
import { defineKernel } from "../gpu/kernel";
import { CHUNK_BEST, chunkCount, type SamplingOptions } from "./sample-candidates";
import type { StepShape } from "./step-shape";

/** Bytes of a row's `result`: token, reason why the run ended (0: it goes on), step, position; u32 each. */
export const SAMPLE_RESULT_BYTES = 16;

/** Why a run ended: in `result` and in its row's `stopped`. */
export const SAMPLE_STOP = {
  /** The token is a stop token of the run. */
  stopToken: 1,
  /** Only in `result`: the run had ended before this step. The step changed nothing and has no token. */
  afterStop: 2,
  /** Every token is forbidden. There is no token. */
  nothingAllowed: 3,
  /** The logit of an allowed token is not a finite number, so the model or the device is broken. There is no token. */
  notANumber: 4,
} as const;

const THREADS = 256; // in the workgroup

type Binding = "state" | "params" | "logits" | "candidates" | "chunks" | "counts" | "result";

/**
 * Runs after sample-candidates, on its results for the same rows. Writes the token to the row of `state` and to `result`, and counts it in the slot's
 * `counts`. The row moves on to the next position and step; it is stopped if the token ends the run.
 */
export const samplePick = defineKernel<Binding, SamplingOptions, StepShape>({
  name: "sample-pick",
  wgsl,
  bindings: ["state", "params", "logits", "candidates", "chunks", "counts", "result"],
  variant({ vocab }) {
    const chunks = chunkCount(vocab);
    const leaders = Math.min(CHUNK_BEST, Math.floor(THREADS / chunks));
    return { defines: {}, constants: { VOCAB: vocab, CHUNK_COUNT: chunks, LEADERS: leaders } };
  },
  workgroups: (_, { rows }) => [1, rows, 1],
});

export const samplePickVariants: readonly SamplingOptions[] = [{ vocab: 49_152 }];
