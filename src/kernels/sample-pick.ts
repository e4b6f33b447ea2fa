// Second half of sampling: the token, and the state that the next step starts from.
import wgsl from "../../shaders/sample-pick.wgsl?raw";
import { defineKernel } from "../gpu/kernel";
import { CHUNK_BEST, chunkCount, type SamplingOptions } from "./sample-candidates";
import type { StepShape } from "./step-shape";

/** Bytes of `result`: token, why the run ended (0: it goes on), step, position of the step's first row; u32 each. */
export const SAMPLE_RESULT_BYTES = 16;

/** Why a run ended, in `result` and `state.stopped`. */
export const SAMPLE_STOP = {
  /** The token is one of those that end the run. */
  stopToken: 1,
  /** In `result` only: the run had ended before this step, which changed nothing and has no token. */
  afterStop: 2,
  /** Every token is forbidden, or the logits are not numbers. There is no token. */
  nothingAllowed: 3,
} as const;

const THREADS = 256; // of the workgroup

type Binding = "state" | "params" | "logits" | "candidates" | "chunks" | "counts" | "ids" | "result";

/**
 * After sample-candidates, on what it wrote. The token goes to `ids[0]` and `result`, `counts` counts it, and `state` moves on: position
 * by the step's rows, one row, the next step; stopped if the token ends the run.
 */
export const samplePick = defineKernel<Binding, SamplingOptions, StepShape>({
  name: "sample-pick",
  wgsl,
  bindings: ["state", "params", "logits", "candidates", "chunks", "counts", "ids", "result"],
  variant({ vocab }) {
    const chunks = chunkCount(vocab);
    const leaders = Math.min(CHUNK_BEST, Math.floor(THREADS / chunks));
    return { defines: {}, constants: { VOCAB: vocab, CHUNK_COUNT: chunks, LEADERS: leaders } };
  },
  workgroups: () => [1, 1, 1],
});

export const samplePickVariants: readonly SamplingOptions[] = [{ vocab: 49_152 }];
