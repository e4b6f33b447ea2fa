// Makes a runtime on a graphics device, at a stage of the plan: for the first one, and again for the one that replaces a lost device.
import { present } from "../assert";
import type { Gpu } from "../gpu/device";
import { KernelCache } from "../gpu/kernel";
import { ATTENTION_SPLIT } from "../kernels/paged-attention-decode";
import { KvCache, KvGroup, type KvLayout } from "../kv/kv-cache";
import { Lane } from "../model/lane";
import { Model } from "../model/model";
import type { ProgramContext } from "../model/program-context";
import { bindResiduals } from "../model/residual-steps";
import { activationStrides, mostRows, Scratch, type ScratchLayout } from "../model/scratch";
import { comingBoundaries, kvGroupShapes } from "../stages/kv-groups";
import { type StagePlan, stageContents } from "../stages/plan";
import type { StageWeights } from "../stages/stage-loader";
import type { Runtime } from "../steps/runtime";
import { Sampler } from "../steps/sampler";
import { Stepper } from "../steps/stepper";
import { type GemvTunings, tuningsOn } from "../tuning/gemv-tunings";
import { type RejectedVariant, rejectedVariants } from "../tuning/self-test";
import type { ModelConfig } from "../weights/model-config";
import type { ResolvedEngineOptions } from "./engine-options";

export interface RuntimeShape {
  readonly config: ModelConfig;
  readonly plan: StagePlan;
  /** Root of all K/V signatures: identifies the weights, and how K/V is computed and stored. */
  readonly root: string;
  readonly options: ResolvedEngineOptions;
  /** GEMV parameters measured before; without them, and for shapes never measured, the defaults. */
  readonly tunings?: GemvTunings;
  /** Called for kernels that failed the device's self-test: the runtime does without them. */
  readonly onVariantRejected?: (rejected: RejectedVariant) => void;
}

// Row count above which one tile beats one GEMV per row. On software adapters arithmetic dominates, and tiles save some of it.
const VECTOR_ROWS = 16;

/**
 * Allocates K/V and scratch, compiles the sampler and finds out which kernels the device computes right.
 *
 * @throws LlmError "out-of-memory" | "gpu-error"; what was made by then is freed with `gpu`, by the caller.
 */
export async function createRuntime(gpu: Gpu, shape: RuntimeShape, stage: number): Promise<Runtime> {
  const { config, plan, root, options, onVariantRejected } = shape;
  const { poolLength, pageSize, kvFormat, stepsAhead, batchSize } = options;
  const layout = scratchLayout(gpu, options);
  const kvLayout: KvLayout = {
    kvHeadCount: config.kvHeadCount,
    headDim: config.headDim,
    pageSize,
    pageCount: Math.ceil(poolLength / pageSize),
    format: kvFormat,
    residualStride: activationStrides(config).hidden,
  };
  const { scratch, lane, cache } = await gpu.checked(
    "the K/V pool and activations",
    () => ({
      scratch: new Scratch(gpu, config, layout),
      lane: new Lane(gpu, "main", config, layout, { slots: layout.batchRows, rows: mostRows(layout) }),
      cache: new KvCache(kvGroupShapes(plan, stage, root).map((group) => new KvGroup(gpu, kvLayout, group))),
    }),
    () => undefined, // they are freed with `gpu`
  );
  const { context, sampler, rejected } = await testedContext({
    ...{ gpu, config, scratch, lane, kvLayout },
    kernels: KernelCache.of(gpu),
    subgroups: gpu.features.subgroups !== null,
    subgroupMatrix: gpu.features.subgroupMatrix,
    dp4a: layout.dp4a,
    gemvTuning: tuningsOn(gpu, shape.tunings),
  });
  const model = new Model(context);
  const stepper = await gpu.checked(
    "results on their way back",
    () => new Stepper(model, sampler, { stepsAhead, batchSize }),
    (made) => made.destroy(),
  );
  for (const each of rejected) onVariantRejected?.(each);
  return { gpu, model, sampler, stepper, cache, stage, embeddingRows: [] };
}

/** Puts all that a stage has in place. The runtime owns the weights once this resolves. */
export async function startRuntime(runtime: Runtime, plan: StagePlan, weights: StageWeights): Promise<void> {
  const { model, sampler, cache, stage } = runtime;
  const { rows } = stageContents(plan, stage);
  sampler.setPresentRows(rows); // before anything is awaited: a load that is aborted meanwhile leaves no buffer to write
  for (const [layer, layerWeights] of weights.layers) {
    const place = { group: cache.groupOf(layer), lane: model.context.lane };
    model.slots[layer]?.replace(await model.prepareLayer(layer, layerWeights, place));
  }
  await model.setOuter(present(weights.outer, "what surrounds the layers"), rows);
  model.useResiduals(await bindResiduals(model.context, cache.groups, model.context.lane, comingBoundaries(plan, stage)));
  runtime.embeddingRows = rows;
}

function scratchLayout({ features }: Gpu, options: ResolvedEngineOptions): ScratchLayout {
  const { contextLength, pageSize, chunkRows, batchSize } = options;
  return {
    ...{ chunkRows, contextLength, pageSize, batchRows: batchSize },
    vectorRows: options.vectorRows ?? (features.software ? 1 : VECTOR_ROWS),
    splitsPrefill: !features.software && contextLength > ATTENTION_SPLIT,
    dp4a: options.prefillActivations === "int8" && !features.subgroupMatrix,
  };
}

/**
 * The context without the variants that fail on its device, and the sampler: compiled beside the self-test, which seldom says no, and once more
 * where it does.
 */
async function testedContext(untested: ProgramContext) {
  const [sampler, tested] = await Promise.allSettled([Sampler.create(untested), rejectedVariants(untested.gpu, untested)]);
  if (tested.status === "rejected") throw tested.reason;
  const rejected = tested.value;
  const passed = (variant: RejectedVariant["variant"]) => rejected.every((each) => each.variant !== variant);
  const context: ProgramContext = {
    ...untested,
    subgroups: untested.subgroups && passed("subgroups"),
    subgroupMatrix: untested.subgroupMatrix && passed("subgroup-matrix"),
    dp4a: untested.dp4a && passed("dp4a"),
  };
  if (context.subgroups === untested.subgroups) {
    if (sampler.status === "rejected") throw sampler.reason;
    return { context, rejected, sampler: sampler.value };
  }
  if (sampler.status === "fulfilled") sampler.value.destroy();
  return { context, rejected, sampler: await Sampler.create(context) };
}
