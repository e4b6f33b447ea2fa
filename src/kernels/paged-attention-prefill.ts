// Causal attention of a chunk of rows over its sequence's pages.
import wgsl from "../../shaders/paged-attention-prefill.wgsl?raw";
import { assert } from "../assert";
import { defineKernel } from "../gpu/kernel";
import { type CachedHeads, cachedHeadDefines } from "./cached-heads";
import type { StepShape } from "./step-shape";

export interface PagedAttentionPrefillOptions extends CachedHeads {
  /** Positions that a row sees, its own included; null: all up to it. */
  readonly window: number | null;
  /** Floats between rows of `qkv`. */
  readonly qkvStride: number;
  /** Floats between rows of `y`. */
  readonly yStride: number;
}

type Binding = "state" | "qkv" | "table" | "keys" | "values" | "y";

/** `qkv`, `table`, `keys`, `values`: as rotary-cache leaves them. `y`: f32 [rows, yStride], headCount · headDim of a row written. */
export const pagedAttentionPrefill = defineKernel<Binding, PagedAttentionPrefillOptions, StepShape>({
  name: "paged-attention-prefill",
  wgsl,
  bindings: ["state", "qkv", "table", "keys", "values", "y"],
  variant(options) {
    const { headDim, window, qkvStride, yStride } = options;
    assert(qkvStride % 4 === 0 && yStride % 4 === 0, `rows ${qkvStride} and ${yStride} floats apart, not whole vec4s`);
    assert(window === null || window > 0, `a window of ${window} positions`);
    return {
      defines: {
        ...cachedHeadDefines(options),
        WINDOW: window ?? 0,
        KEYS: keysPerTile(options),
        QKV_STRIDE: qkvStride,
        Y_STRIDE: yStride,
      },
      constants: { SCALE: 1 / Math.sqrt(headDim) },
    };
  },
  workgroups: ({ headCount, kvHeadCount }, { rows }) => [kvHeadCount, Math.ceil((rows * headCount) / kvHeadCount / PACKED_ROWS), 1],
});

const PACKED_ROWS = 32;
// Of 16 KiB of workgroup memory: the weights take up to 4, the tile's padding 0.5.
const TILE_BYTES = 8192;

/** 32 where they fit, else 16 or 8. */
function keysPerTile({ headDim, kvFormat }: CachedHeads): number {
  const fitting = TILE_BYTES / (headDim * (kvFormat === "f16" ? 2 : 4));
  return fitting >= 32 ? 32 : fitting >= 16 ? 16 : 8;
}

export const pagedAttentionPrefillVariants: readonly PagedAttentionPrefillOptions[] = (["f32", "f16"] as const).flatMap((kvFormat) =>
  [null, 16].flatMap((window) =>
    [32, 80, 128, 256].map((headDim) => {
      const shared = { headCount: 6, kvHeadCount: 2, pageSize: 16, kvFormat, window };
      return { ...shared, headDim, qkvStride: 10 * headDim, yStride: 6 * headDim };
    }),
  ),
);
