// Splits the K/V cache into groups of layers, as a plan requires, and says what a stage writes into each.
import { present } from "../assert";
import type { KvGroupShape } from "../kv/kv-cache";
import { boundaryOf, layerGroups, layerVersions, type StagePlan, signatures, stageContents } from "./plan";

/** The groups at a stage. `root` identifies the weight files and the K/V format; all signatures start from it. */
export function kvGroupShapes(plan: StagePlan, stageIndex: number, root: string): readonly KvGroupShape[] {
  const { layers } = stageContents(plan, stageIndex);
  const chain = signatures(root, layerVersions(plan, stageIndex));
  const coming = comingBoundaries(plan, stageIndex);
  return layerGroups(plan).map(({ first, end }) => ({
    first,
    end,
    layers: Array.from({ length: end - first }, (_, index) => first + index).filter((layer) => layers.has(layer)),
    signature: present(chain[end], "signature"),
    recordsResidual: coming.has(end),
  }));
}

/** Boundaries of the upgrades that are still to come. */
export function comingBoundaries(plan: StagePlan, stageIndex: number): ReadonlySet<number> {
  const boundaries = new Set<number>();
  for (let index = stageIndex; index + 1 < plan.stages.length; index++) {
    boundaries.add(boundaryOf(layerVersions(plan, index), layerVersions(plan, index + 1)));
  }
  boundaries.delete(plan.layerCount);
  return boundaries;
}
