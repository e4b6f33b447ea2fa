// One upgrade of the model as a transaction. Everything is prepared beside the stage that answers. `commit` puts it in place between two submits;
// `abandon` leaves no trace.
import { present } from "../assert";
import { KvGroup } from "../kv/kv-cache";
import { Lane } from "../model/lane";
import { type LayerProgram, stepsOf } from "../model/layer-program";
import type { ReadyLayer } from "../model/layer-slot";
import type { LayerWeights } from "../model/layer-weights";
import type { HeadProgram, Model } from "../model/model";
import { bindResiduals, type ResidualSteps } from "../model/residual-steps";
import type { Walk } from "../model/walk";
import { comingBoundaries, kvGroupShapes } from "../stages/kv-groups";
import { boundaryOf, layerVersions, type StagePlan, stageContents } from "../stages/plan";
import type { StageWeights } from "../stages/stage-loader";
import type { Runtime } from "../steps/runtime";
import { TimeSlice } from "../time-slice";
import { unionRows } from "../weights/row-set";
import { Rebuild } from "./rebuild";

export interface UpgradeHost {
  readonly runtime: Runtime;
  readonly plan: StagePlan;
  /** Identifies the model's files and the storage of K/V. Signatures begin with it. */
  readonly root: string;
}

export interface StageStep {
  /** Indices of the plan's stages. */
  readonly from: number;
  readonly to: number;
}

/** The K/V half of an upgrade. */
interface KvStep {
  readonly rebuild: Rebuild;
  readonly firstGroup: number;
  readonly groups: readonly KvGroup[];
  readonly lane: Lane;
  readonly ready: ReadonlyMap<number, ReadyLayer>;
}

export class Upgrade {
  readonly step: StageStep;
  /** The lowest layer whose computation changes. K/V below it is kept. The number of layers if all K/V is kept. */
  readonly boundary: number;
  readonly weights: StageWeights;
  readonly #host: UpgradeHost;
  readonly #kv: KvStep | null;
  readonly #head: HeadProgram | null;
  readonly #residuals: ResidualSteps;

  private constructor(
    host: UpgradeHost,
    step: StageStep,
    weights: StageWeights,
    made: { readonly boundary: number; readonly kv: KvStep | null; readonly head: HeadProgram | null; readonly residuals: ResidualSteps },
  ) {
    this.#host = host;
    this.step = step;
    this.weights = weights;
    this.boundary = made.boundary;
    this.#kv = made.kv;
    this.#head = made.head;
    this.#residuals = made.residuals;
  }

  /**
   * Allocates and binds everything that the stage needs. Owns `weights` from here on, unless it throws.
   *
   * @throws LlmError "out-of-memory" | "gpu-error"; nothing stays allocated then.
   */
  static async prepare(host: UpgradeHost, step: StageStep, weights: StageWeights): Promise<Upgrade> {
    const { plan } = host;
    const { model, cache } = host.runtime;
    const boundary = boundaryOf(layerVersions(plan, step.from), layerVersions(plan, step.to));
    const kv = boundary < plan.layerCount ? await prepareKv(host, step, weights, boundary) : null;
    try {
      const groups = kv ? [...cache.groups.slice(0, kv.firstGroup), ...kv.groups] : cache.groups;
      const residuals = await bindResiduals(model.context, groups, model.context.lane, comingBoundaries(plan, step.to));
      const head = weights.rows.length > 0 ? await model.prepareHead(stageContents(plan, step.to).rows) : null;
      return new Upgrade(host, step, weights, { boundary, kv, head, residuals });
    } catch (error) {
      if (kv) destroyKv(kv);
      throw error;
    }
  }

  /** Null if no K/V changes. */
  get rebuild(): Rebuild | null {
    return this.#kv?.rebuild ?? null;
  }

  /** The new stage answers from the next submit on. The caller must have sequences follow to `cache.groups`. */
  commit(): void {
    const { runtime } = this.#host;
    const { model, sampler, cache } = runtime;
    if (this.#kv) {
      for (const [layer, ready] of this.#kv.ready) {
        const before = model.slots[layer]?.replace(ready);
        if (before !== ready.weights) before?.destroy();
      }
      // WebGPU keeps buffers that submitted steps still read.
      for (const group of cache.replaceFrom(this.#kv.firstGroup, this.#kv.groups)) group.destroy();
      this.#kv.lane.destroy();
    }
    const coming = comingBoundaries(this.#host.plan, this.step.to);
    for (const group of cache.groups) if (!coming.has(group.end)) group.stopRecording();
    model.useResiduals(this.#residuals);
    if (this.#head) {
      model.useHead(this.#head);
      sampler.setPresentRows(this.#head.rows);
    }
    runtime.embeddingRows = unionRows(runtime.embeddingRows, this.weights.rows);
    runtime.stage = this.step.to;
  }

  /** Frees everything but the weights, which belong to the caller again. */
  abandon(): void {
    if (!this.#kv) return;
    this.#kv.rebuild.abandon();
    destroyKv(this.#kv);
  }
}

function destroyKv({ groups, lane }: Pick<KvStep, "groups" | "lane">): void {
  for (const group of groups) group.destroy();
  lane.destroy();
}

// Binding some hundred kernels is spread between the steps of an answer, of which a few are under way at a time.
const PREPARE_SLICE_MS = 1;

async function prepareKv(host: UpgradeHost, { to }: StageStep, weights: StageWeights, boundary: number): Promise<KvStep> {
  const { plan, root } = host;
  const { model, cache } = host.runtime;
  const { gpu, config, kvLayout, scratch } = model.context;
  const firstGroup = cache.indexFrom(boundary);
  const shapes = kvGroupShapes(plan, to, root).slice(firstGroup);
  const buffers = await gpu.checked(
    "the K/V of the next stage",
    () => ({
      groups: shapes.map((shape) => new KvGroup(gpu, kvLayout, shape)),
      lane: new Lane(gpu, "rebuild", config, scratch.layout, { slots: 1, rows: scratch.layout.chunkRows }),
    }),
    destroyKv,
  );
  try {
    const { groups, lane } = buffers;
    const ready = new Map<number, ReadyLayer>();
    const shadows = new Map<number, LayerProgram>();
    const slice = new TimeSlice(undefined, PREPARE_SLICE_MS);
    for (const group of groups) {
      for (const layer of group.layers) {
        const layerWeights = weights.layers.get(layer) ?? presentWeights(model, layer);
        ready.set(layer, await model.prepareLayer(layer, layerWeights, { group, lane: model.context.lane }));
        shadows.set(layer, (await model.prepareLayer(layer, layerWeights, { group, lane })).program);
        if (slice.isOver) await slice.next();
      }
    }
    const kept = cache.groups.slice(0, firstGroup);
    const walk: Walk = {
      lane,
      embed: await model.prepareEmbedding(lane),
      residuals: await bindResiduals(model.context, [...kept, ...groups], lane, comingBoundaries(plan, to)),
      layer: (layer, shape) => stepsOf(shadows.get(layer), shape, model.context),
    };
    const rereadingWalk = () => model.rereadingWalk(walk, kept);
    const rebuild = new Rebuild({ gpu, lane, layerCount: plan.layerCount, firstGroup, groups, walk, rereadingWalk });
    return { rebuild, firstGroup, groups, lane, ready };
  } catch (error) {
    destroyKv(buffers);
    throw error;
  }
}

function presentWeights(model: Model, layer: number): LayerWeights {
  return present(model.slots[layer]?.weights, `weights of layer ${layer}`);
}
