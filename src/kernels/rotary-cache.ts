// Applies the rotary embedding to queries and keys, and writes keys and values to their pages.
import wgsl from "../../shaders/rotary-cache.wgsl?raw";
import { assert } from "../assert";
import { defineKernel } from "../gpu/kernel";
import { type CachedHeads, cachedHeadDefines } from "./cached-heads";
import type { StepShape } from "./step-shape";

export interface RotaryCacheOptions extends CachedHeads {
  /** Dimensions of a head that are rotated, a multiple of 8. The rest are unchanged. */
  readonly ropeDimensions: number;
  /** Floats between rows of `qkv`. */
  readonly qkvStride: number;
  /** False if a pass is repeated over positions whose K/V is cached: only queries are rotated, and neither pages nor table are bound. */
  readonly writes?: boolean;
}

type Binding = "state" | "qkv" | "rope" | "table" | "keys" | "values";

/**
 * `qkv`: f32 [rows, qkvStride]; a row holds all query heads, all key heads, all value heads. Its queries are rotated in place. `rope`: f32 [positions,
 * ropeDimensions / 2] pairs (cos, sin). `table`: u32 [slots, tableStride], the page of each run of pageSize positions. `keys`, `values`:
 * [page][kvHead][pageSize][headDim] in kvFormat.
 */
export const rotaryCache = defineKernel<Binding, RotaryCacheOptions, StepShape>({
  name: "rotary-cache",
  wgsl,
  bindings: ["state", "qkv", "rope", "table", "keys", "values"],
  variant(options) {
    const { headDim, ropeDimensions, qkvStride, writes = true, tableStride = 0 } = options;
    assert(
      ropeDimensions % 8 === 0 && ropeDimensions > 0 && ropeDimensions <= headDim,
      `${ropeDimensions} rotary dimensions of ${headDim}; they must be a multiple of 8`,
    );
    assert(qkvStride % 4 === 0, `rows of qkv are ${qkvStride} floats apart, not whole vec4s`);
    return {
      defines: { ...cachedHeadDefines(options), ROPE_DIMENSIONS: ropeDimensions, QKV_STRIDE: qkvStride, WRITES: writes },
      ...(writes ? { constants: { TABLE_STRIDE: tableStride } } : {}),
    };
  },
  workgroups({ headCount, kvHeadCount, headDim, writes = true }, { rows }) {
    const heads = writes ? headCount + 2 * kvHeadCount : headCount;
    const items = (heads * headDim) / 8;
    return [Math.ceil(items / 64), rows, 1];
  },
});

export const rotaryCacheVariants: readonly RotaryCacheOptions[] = (["f32", "f16"] as const).flatMap((kvFormat) =>
  [true, false].map((writes) => ({
    headCount: 6,
    kvHeadCount: 2,
    headDim: 32,
    pageSize: 16,
    kvFormat,
    ropeDimensions: 16,
    qkvStride: 320,
    writes,
  })),
);
