// Combines the splits of paged-attention-decode.
import wgsl from "../../shaders/paged-attention-reduce.wgsl?raw";
import { assert } from "../assert";
import { defineKernel } from "../gpu/kernel";
import { ATTENTION_SPLIT } from "./paged-attention-decode";
import type { StepShape } from "./step-shape";

export interface PagedAttentionReduceOptions {
  readonly headCount: number;
  readonly headDim: number;
  /** As in paged-attention-decode, like `split`. */
  readonly window: number | null;
  /** Floats between rows of `y`. */
  readonly yStride: number;
  readonly split?: number;
}

/** `partial`: as paged-attention-decode leaves it. `y`: f32 [rows, yStride], headCount · headDim of a row written. */
export const pagedAttentionReduce = defineKernel<"state" | "partial" | "y", PagedAttentionReduceOptions, StepShape>({
  name: "paged-attention-reduce",
  wgsl,
  bindings: ["state", "partial", "y"],
  variant({ headCount, headDim, window, yStride, split = ATTENTION_SPLIT }) {
    assert(headDim <= 256, `heads of ${headDim} dimensions; up to 256 fit a workgroup`);
    return { defines: { HEAD_COUNT: headCount, HEAD_DIM: headDim, WINDOW: window ?? 0, SPLIT: split, Y_STRIDE: yStride } };
  },
  workgroups: ({ headCount }, { rows }) => [headCount, rows, 1],
});

export const pagedAttentionReduceVariants: readonly PagedAttentionReduceOptions[] = [null, 16].map((window) => ({
  headCount: 6,
  headDim: 32,
  window,
  yStride: 192,
}));
