// Decides how long recorded residuals are kept: while an upgrade is to begin at them, or a sequence has to catch up from them.
import type { KvGroup } from "../kv/kv-cache";
import { comingBoundaries } from "../stages/kv-groups";
import type { StagePlan } from "../stages/plan";
import type { Runtime } from "../steps/runtime";
import type { Sequence } from "../steps/sequence";

/** Frees residuals that are no longer needed. */
export function dropSpentResiduals({ cache, model, stage }: Runtime, plan: StagePlan, sequences: Iterable<Sequence>): void {
  const coming = comingBoundaries(plan, stage);
  const all = [...sequences];
  for (const [index, group] of cache.groups.entries()) {
    if (!group.residuals || coming.has(group.end)) continue;
    if (all.some((sequence) => lagsBehind(sequence, index, cache.groups[index + 1]))) continue;
    model.forgetResidual(group.end);
    group.dropResiduals();
  }
}

/** Whether the sequence has more in the group at `index` than in the one after it. */
function lagsBehind({ parts }: Sequence, index: number, next: KvGroup | undefined): boolean {
  const above = parts[index + 1];
  const cachedAbove = above?.group === next ? (above?.cachedLength ?? 0) : 0;
  return (parts[index]?.cachedLength ?? 0) > cachedAbove;
}
