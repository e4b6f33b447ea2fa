// Decides for each layer whether its K/V is kept, restored or recomputed when weights or pools change. Pure.

export type LayerCarry =
  /** K/V stays in its pages; no byte moves. */
  | "keep"
  /** K/V is copied back from a snapshot, without arithmetic. */
  | "restore"
  /** K/V is computed again. */
  | "recompute";

/** K/V of a layer that is present after the change. */
export interface LayerKv {
  readonly layer: number;
  /** Whether the layers up to this one are the same before and after the change. */
  readonly isSameFunction: boolean;
  /** Positions that a real pass has written, in pages that stay. 0 if the pool goes, or if nothing was ever written. */
  readonly populated: number;
  /** Positions that a snapshot holds, computed by the same weights. */
  readonly saved: number;
}

export interface LayerDecision {
  readonly layer: number;
  readonly carry: LayerCarry;
  /** Positions from the start that are kept or restored. The rest is computed. */
  readonly positions: number;
}

/**
 * Chooses for each layer what saves most of `length` positions, and the cheapest of equal savings. A layer cannot use more positions than the
 * layers below it: beyond those, its input residual is missing.
 */
export function decideKvCarry(layers: readonly LayerKv[], length: number): readonly LayerDecision[] {
  let reach = length;
  return layers.map(({ layer, isSameFunction, populated, saved }) => {
    const kept = isSameFunction ? Math.min(populated, reach) : 0;
    const restored = isSameFunction ? Math.min(saved, reach) : 0;
    reach = Math.max(kept, restored);
    const carry = reach === 0 ? "recompute" : kept >= restored ? "keep" : "restore";
    return { layer, carry, positions: reach };
  });
}
