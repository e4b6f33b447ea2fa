// Causal attention of a chunk of rows over the pages of its sequence.
import wgsl from "../../shaders/paged-attention-prefill.wgsl?raw";
import { assert } from "../assert";
import { defineKernel } from "../gpu/kernel";
import { type CachedHeads, cachedHeadDefines } from "./cached-heads";
import type { StepShape } from "./step-shape";

export interface PagedAttentionPrefillOptions extends CachedHeads {
  /** Positions that a row sees, its own included; null: all positions up to it. */
  readonly window: number | null;
  /** Floats between rows of `qkv`. */
  readonly qkvStride: number;
  /** Floats between rows of `y`. */
  readonly yStride: number;
  /** Writes `partial` for paged-attention-reduce instead of `y`, in `prefillSplits` splits. */
  readonly isSplit?: boolean;
}

type Binding = "state" | "qkv" | "table" | "keys" | "values" | "partial" | "y";

/**
 * `qkv`, `table`, `keys`, `values`: written by rotary-cache. `y`: f32 [rows, yStride]; headCount · headDim values of a row are written. `partial`:
 * `prefillPartialBytes`.
 */
export const pagedAttentionPrefill = defineKernel<Binding, PagedAttentionPrefillOptions, StepShape>({
  name: "paged-attention-prefill",
  wgsl,
  bindings: ["state", "qkv", "table", "keys", "values", "partial", "y"],
  variant(options) {
    const { headDim, window, qkvStride, yStride, tableStride = 0, isSplit = false } = options;
    assert(qkvStride % 4 === 0 && yStride % 4 === 0, `rows ${qkvStride} and ${yStride} floats apart, not whole vec4s`);
    assert(window === null || window > 0, `a window of ${window} positions`);
    return {
      defines: {
        ...cachedHeadDefines(options),
        WINDOW: window ?? 0,
        KEYS: keysPerTile(options),
        QKV_STRIDE: qkvStride,
        Y_STRIDE: yStride,
        IS_SPLIT: isSplit,
      },
      constants: { SCALE: 1 / Math.sqrt(headDim), TABLE_STRIDE: tableStride },
    };
  },
  workgroups: (options, shape) => [
    options.kvHeadCount,
    rowWorkgroups(options, shape.rows),
    options.isSplit ? prefillSplits(options, shape) : 1,
  ],
});

const PACKED_ROWS = 32;

function rowWorkgroups({ headCount, kvHeadCount }: Heads, rows: number): number {
  return Math.ceil((rows * headCount) / kvHeadCount / PACKED_ROWS);
}

type Heads = Pick<CachedHeads, "headCount" | "kvHeadCount">;

// Enough workgroups to keep a large GPU busy: about six for each of an H100's 132 processors.
const BUSY_WORKGROUPS = 768;
// A split of fewer positions costs more for its record than it saves.
const SPLIT_POSITIONS = 256;

/** The number of splits of a chunk's context; 1 if splitting would gain nothing. */
export function prefillSplits(heads: Heads, { rows, positions }: StepShape): number {
  const workgroups = heads.kvHeadCount * rowWorkgroups(heads, rows);
  return Math.max(1, Math.min(Math.floor(BUSY_WORKGROUPS / workgroups), Math.floor(positions / SPLIT_POSITIONS)));
}

/**
 * Bytes of `partial` for steps of at most these rows and positions: four floats, then for each (split, row, head) headDim sums, the maximum score and the
 * total weight.
 */
export function prefillPartialBytes(
  { headCount, headDim }: Pick<CachedHeads, "headCount" | "headDim">,
  { rows, positions }: StepShape,
): number {
  const records = Math.min(BUSY_WORKGROUPS * PACKED_ROWS, Math.floor(positions / SPLIT_POSITIONS) * rows * headCount);
  return (4 + records * (headDim + 2)) * 4;
}

// Of 16 KiB of workgroup memory, the weights take up to 4 KiB and the tile's padding 0.5.
const TILE_BYTES = 8192;

/** 32 if they fit, else 16 or 8. */
function keysPerTile({ headDim, kvFormat }: CachedHeads): number {
  const fitting = TILE_BYTES / (headDim * (kvFormat === "f16" ? 2 : 4));
  return fitting >= 32 ? 32 : fitting >= 16 ? 16 : 8;
}

export const pagedAttentionPrefillVariants: readonly PagedAttentionPrefillOptions[] = (["f32", "f16"] as const).flatMap((kvFormat) =>
  [null, 16].flatMap((window) =>
    [32, 80, 128, 256].map((headDim) => {
      const shared = { headCount: 6, kvHeadCount: 2, pageSize: 16, kvFormat, window };
      return { ...shared, headDim, qkvStride: 10 * headDim, yStride: 6 * headDim, isSplit: window === null };
    }),
  ),
);
