// Which positions a prefill computes next, and in which layers: a pure decision.

/** What a sequence has in a group of layers. */
export interface GroupProgress {
  readonly cachedLength: number;
  /** Positions whose residual leaving the group is recorded. */
  readonly recordedLength: number;
}

export interface PrefillSpan {
  /** Positions [start, end). */
  readonly start: number;
  readonly end: number;
  /** K/V is written in this group and those after it. */
  readonly firstGroup: number;
  /**
   * Layers run from this group on: from the residual that enters it, or from the embeddings where it is the first. Groups before `firstGroup` are
   * only read: no residual was there to start from.
   */
  readonly sourceGroup: number;
}

/**
 * The uppermost groups catch up first, so that every later position finds all layers below and beside it complete; then new positions run through all.
 * Null when `length` positions are cached everywhere.
 */
export function nextSpan(groups: readonly GroupProgress[], length: number): PrefillSpan | null {
  for (let firstGroup = groups.length - 1; firstGroup >= 0; firstGroup--) {
    const start = groups[firstGroup]?.cachedLength ?? 0;
    const end = firstGroup === 0 ? length : (groups[firstGroup - 1]?.cachedLength ?? 0);
    if (start >= end) continue;
    for (let sourceGroup = firstGroup; sourceGroup > 0; sourceGroup--) {
      const recorded = groups[sourceGroup - 1]?.recordedLength ?? 0;
      if (recorded > start) return { start, end: Math.min(end, recorded), firstGroup, sourceGroup };
    }
    return { start, end, firstGroup, sourceGroup: 0 };
  }
  return null;
}
