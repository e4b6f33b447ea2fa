// Combines the splits that paged-attention-decode or paged-attention-prefill computed.
import wgsl from "../../shaders/paged-attention-reduce.wgsl?raw";
import { assert } from "../assert";
import { defineKernel } from "../gpu/kernel";
import { ATTENTION_SPLIT } from "./paged-attention-decode";
import type { StepShape } from "./step-shape";

export interface PagedAttentionReduceOptions {
  readonly headCount: number;
  readonly headDim: number;
  /** The same as in paged-attention-decode; so is `split`. */
  readonly window: number | null;
  /** Floats between rows of `y`. */
  readonly yStride: number;
  readonly split?: number;
  /** `partial` comes from paged-attention-prefill and begins with the number of splits. */
  readonly isCounted?: boolean;
}

/** `partial`: written by paged-attention-decode or paged-attention-prefill. `y`: f32 [rows, yStride]; headCount · headDim values of a row are written. */
export const pagedAttentionReduce = defineKernel<"state" | "partial" | "y", PagedAttentionReduceOptions, StepShape>({
  name: "paged-attention-reduce",
  wgsl,
  bindings: ["state", "partial", "y"],
  variant({ headCount, headDim, window, yStride, split = ATTENTION_SPLIT, isCounted = false }) {
    assert(headDim <= 256, `heads of ${headDim} dimensions; up to 256 fit a workgroup`);
    return {
      defines: { HEAD_COUNT: headCount, HEAD_DIM: headDim, WINDOW: window ?? 0, SPLIT: split, Y_STRIDE: yStride, COUNTED: isCounted },
    };
  },
  workgroups: ({ headCount }, { rows }) => [headCount, rows, 1],
});

export const pagedAttentionReduceVariants: readonly PagedAttentionReduceOptions[] = [
  { window: null },
  { window: 16 },
  { window: null, isCounted: true },
].map((each) => ({ headCount: 6, headDim: 32, yStride: 192, ...each }));
