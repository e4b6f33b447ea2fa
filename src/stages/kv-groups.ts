// How a plan cuts the K/V cache into groups of layers, and what a stage writes into each.
import { present } from "../assert";
import type { KvGroupShape } from "../kv/kv-cache";
import { boundaryOf, layerGroups, layerVersions, type StagePlan, signatures, stageContents } from "./plan";

/** The groups at a stage. `root` names the model's files and how K/V is stored: `signatures` of the plan begin with it. */
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

/** Where the upgrades that are still to come begin. */
export function comingBoundaries(plan: StagePlan, stageIndex: number): ReadonlySet<number> {
  const boundaries = new Set<number>();
  for (let index = stageIndex; index + 1 < plan.stages.length; index++) {
    boundaries.add(boundaryOf(layerVersions(plan, index), layerVersions(plan, index + 1)));
  }
  boundaries.delete(plan.layerCount);
  return boundaries;
}
