// Residuals at the boundaries of coming upgrades. They are recorded when positions are first computed; a rebuild starts from them.
import { residualLoad } from "../kernels/residual-load";
import { residualStore } from "../kernels/residual-store";
import type { KvGroup } from "../kv/kv-cache";
import { type Lane, tableStride } from "./lane";
import type { ProgramContext } from "./program-context";
import type { Step } from "./vector-step";

/** The key is the layer that a residual enters. */
export interface ResidualSteps {
  /** From the lane's `x` to the pages. */
  readonly stores: ReadonlyMap<number, Step>;
  /** From the pages to the lane's `x`. */
  readonly loads: ReadonlyMap<number, Step>;
}

export const NO_RESIDUALS: ResidualSteps = { stores: new Map(), loads: new Map() };

/** Binds a lane to the residuals of `groups`. Residuals that enter one of the layers in `recorded` are also stored. */
export async function bindResiduals(
  context: ProgramContext,
  groups: readonly KvGroup[],
  lane: Lane,
  recorded: ReadonlySet<number>,
): Promise<ResidualSteps> {
  const { config, scratch } = context;
  const options = { columns: config.hiddenSize, pageSize: context.kvLayout.pageSize, tableStride: tableStride(config, scratch.layout) };
  const stores = new Map<number, Step>();
  const loads = new Map<number, Step>();
  for (const { end, residuals } of groups) {
    if (!residuals) continue;
    const tensors = { state: lane.tensor("state"), x: lane.tensor("x"), table: lane.table(end - 1), residuals };
    const [store, load] = await Promise.all([
      context.kernels.compile(residualStore, options),
      context.kernels.compile(residualLoad, options),
    ]);
    if (recorded.has(end)) stores.set(end, store.bind(tensors));
    loads.set(end, load.bind(tensors));
  }
  return { stores, loads };
}
