// Attention of a decode step, whose rows may belong to different sequences, or of a chunk of a few rows. Each query row attends to its own sequence's
// pages.
import wgsl from "../../shaders/paged-attention-decode.wgsl?raw";
import { assert } from "../assert";
import { defineKernel } from "../gpu/kernel";
import { type CachedHeads, cachedHeadDefines } from "./cached-heads";
import type { StepShape } from "./step-shape";

/** Positions that a workgroup handles. A context of at most this many needs no reduction. */
export const ATTENTION_SPLIT = 256;

export interface PagedAttentionDecodeOptions extends CachedHeads {
  /** Positions that a query sees, its own included; null: all positions up to it. */
  readonly window: number | null;
  /** Floats between rows of `qkv`. */
  readonly qkvStride: number;
  /** Floats between rows of `y`. */
  readonly yStride: number;
  /** Writes `y` from a context of one split. Otherwise writes `partial` for paged-attention-reduce. */
  readonly direct: boolean;
  /** 64, 128 or 256; by default ATTENTION_SPLIT. */
  readonly split?: number;
}

type Binding = "state" | "qkv" | "table" | "keys" | "values" | "partial" | "y";

/**
 * `qkv`, `table`, `keys`, `values`: written by rotary-cache. `y`: f32 [rows, yStride]; headCount · headDim values of a row are written. `partial`: f32,
 * `attentionPartialBytes`. The shape's `positions` may be any upper bound: the result does not depend on it.
 */
export const pagedAttentionDecode = defineKernel<Binding, PagedAttentionDecodeOptions, StepShape>({
  name: "paged-attention-decode",
  wgsl,
  bindings: ["state", "qkv", "table", "keys", "values", "partial", "y"],
  variant(options) {
    const { headDim, window, direct, qkvStride, yStride, tableStride = 0, split = ATTENTION_SPLIT } = options;
    assert(split === 64 || split === 128 || split === 256, `splits of ${split} positions`);
    assert(window === null || window > 0, `a window of ${window} positions`);
    assert(qkvStride % 4 === 0, `rows of qkv are ${qkvStride} floats apart, not whole vec4s`);
    return {
      defines: {
        ...cachedHeadDefines(options),
        WINDOW: window ?? 0,
        SPLIT: split,
        HEADS: headsPerWorkgroup(options),
        LANES: Math.min(4, 512 / split),
        DIRECT: direct,
        QKV_STRIDE: qkvStride,
        Y_STRIDE: yStride,
      },
      constants: { SCALE: 1 / Math.sqrt(headDim), TABLE_STRIDE: tableStride },
    };
  },
  workgroups(options, { rows, positions }) {
    const { headCount, kvHeadCount, direct, split = ATTENTION_SPLIT } = options;
    const splits = Math.ceil(positions / split);
    assert(!direct || splits === 1, `${positions} positions in one split of ${split}`);
    return [kvHeadCount, splits, rows * Math.ceil(headCount / kvHeadCount / headsPerWorkgroup(options))];
  },
});

// Sums of four heads fit registers and 16 KiB of workgroup memory on every device. Short contexts are bound by latency, not bandwidth: one workgroup per
// head is then faster than one workgroup that reads K and V once for several heads.
const MAX_HEADS = 4;

function headsPerWorkgroup({ headCount, kvHeadCount, direct }: PagedAttentionDecodeOptions): number {
  if (direct) return 1;
  const groupHeads = headCount / kvHeadCount;
  return Math.ceil(groupHeads / Math.ceil(groupHeads / MAX_HEADS));
}

export interface AttentionPartials {
  readonly headCount: number;
  readonly headDim: number;
  /** The largest number of rows in a step. */
  readonly rows: number;
  /** The largest number of positions in a sequence. */
  readonly positions: number;
  /** By default ATTENTION_SPLIT. */
  readonly split?: number;
}

/** Bytes of `partial`: for each (split, row, head) headDim sums, the maximum score and the total weight. */
export function attentionPartialBytes({ headCount, headDim, rows, positions, split = ATTENTION_SPLIT }: AttentionPartials): number {
  return Math.ceil(positions / split) * rows * headCount * (headDim + 2) * 4;
}

export const pagedAttentionDecodeVariants: readonly PagedAttentionDecodeOptions[] = (["f32", "f16"] as const).flatMap((kvFormat) =>
  [true, false].flatMap((direct) =>
    [null, 16].flatMap((window) =>
      [64, 128, 256].map((split) => ({
        ...{ headCount: 6, kvHeadCount: 2, headDim: 32, pageSize: 16, kvFormat, direct, window, split },
        ...{ qkvStride: 320, yStride: 192 },
      })),
    ),
  ),
);
