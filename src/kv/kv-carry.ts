// What becomes of each layer's K/V when weights or pools change: a pure decision.

export type LayerCarry =
  /** It stays in its pages; no byte moves. */
  | "keep"
  /** It comes back from a snapshot by copying, with no arithmetic. */
  | "restore"
  /** It is computed anew. */
  | "recompute";

/** A layer that is present afterwards. */
export interface LayerKv {
  readonly layer: number;
  /** Whether the weights that wrote its K/V, and all below it, are those that will read it. */
  readonly isSameFunction: boolean;
  /** Positions that a real pass has written, in pages that stay: 0 where the pool goes, or nothing was ever written. */
  readonly populated: number;
  /** Positions that a snapshot holds of the same function. */
  readonly saved: number;
}

export interface LayerDecision {
  readonly layer: number;
  readonly carry: LayerCarry;
  /** Positions from the start that are kept or restored; what lies beyond is computed. */
  readonly positions: number;
}

/**
 * For each layer what saves most of `length` positions, and of equal savings the cheapest. K/V above a layer that has fewer positions is of no use
 * beyond them: the residual that would go on from there is missing.
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
