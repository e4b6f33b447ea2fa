// What an engine has on one graphics device: made for a stage, and made again for the same stage when the device is lost.
import { present } from "../assert";
import type { Gpu } from "../gpu/device";
import { KernelCache } from "../gpu/kernel";
import { ATTENTION_SPLIT } from "../kernels/paged-attention-decode";
import { KvCache, KvGroup, type KvLayout } from "../kv/kv-cache";
import { Lane } from "../model/lane";
import { Model } from "../model/model";
import type { ProgramContext } from "../model/program-context";
import { bindResiduals } from "../model/residual-steps";
import { activationStrides, MAX_BATCH, mostRows, Scratch } from "../model/scratch";
import { comingBoundaries, kvGroupShapes } from "../stages/kv-groups";
import { type StagePlan, stageContents } from "../stages/plan";
import type { StageWeights } from "../stages/stage-loader";
import { Sampler } from "../steps/sampler";
import { Stepper } from "../steps/stepper";
import { type GemvTunings, tuningsOn } from "../tuning/gemv-tunings";
import { type RejectedVariant, rejectedVariants } from "../tuning/self-test";
import type { ModelConfig } from "../weights/model-config";
import type { RowSet } from "../weights/row-set";
import { type EngineOptions, type ResolvedEngineOptions, resolveEngineOptions } from "./engine-options";

export interface EngineParts {
  readonly gpu: Gpu;
  readonly model: Model;
  readonly sampler: Sampler;
  readonly stepper: Stepper;
  readonly cache: KvCache;
  /** Rows of the embedding that are there. */
  embeddingRows: RowSet;
}

export interface PartsShape {
  readonly config: ModelConfig;
  readonly plan: StagePlan;
  /** Names the model's files, and by the time it is a shape's also how K/V is computed and stored: signatures begin with it, and so tell what K/V is worth. */
  readonly root: string;
  readonly options: ResolvedEngineOptions;
  /** The engine does without kernels that failed the self-test of the device that it is on. */
  readonly onVariantRejected?: (rejected: RejectedVariant) => void;
  /** Cuts of decode's products that were measured before; each has the usual one unless given. */
  readonly tunings?: GemvTunings;
}

/** Of the caller's making. */
export type PartsSource = Pick<PartsShape, "plan" | "root" | "onVariantRejected" | "tunings">;

/** @throws LlmError "bad-request" for an option out of range. */
export function partsShape(config: ModelConfig, source: PartsSource, options: EngineOptions): PartsShape {
  const { plan, root, onVariantRejected, tunings } = source;
  const resolved = resolveEngineOptions(options, config);
  const kvRoot = `${root} ${resolved.kvFormat} K/V${resolved.prefillActivations === "int8" ? " from int8" : ""}`;
  const shape = { config, plan, root: kvRoot, options: resolved };
  return { ...shape, ...(onVariantRejected && { onVariantRejected }), ...(tunings && { tunings }) };
}

// Where a row each begins to cost more than a tile of them. In software, arithmetic is all there is, and tiles save some of it.
const VECTOR_ROWS = 16;

/**
 * Allocates cache and scratch, compiles the sampler and finds out which kernels the device computes right.
 *
 * @throws LlmError "out-of-memory" | "gpu-error"; what was made by then is freed with `gpu`, by the caller.
 */
export async function createParts(gpu: Gpu, shape: PartsShape, stage: number): Promise<EngineParts> {
  const { config, plan, root, options, onVariantRejected } = shape;
  const { contextLength, poolLength, pageSize, chunkRows, stepsAhead, kvFormat } = options;
  const vectorRows = options.vectorRows ?? (gpu.features.software ? 1 : VECTOR_ROWS);
  const kvLayout: KvLayout = {
    kvHeadCount: config.kvHeadCount,
    headDim: config.headDim,
    pageSize,
    pageCount: Math.ceil(poolLength / pageSize),
    format: kvFormat,
    residualStride: activationStrides(config).hidden,
  };
  const splitsPrefill = !gpu.features.software && contextLength > ATTENTION_SPLIT;
  const dp4a = options.prefillActivations === "int8" && !gpu.features.subgroupMatrix;
  const scratchLayout = { chunkRows, contextLength, pageSize, vectorRows, splitsPrefill, dp4a, batchRows: MAX_BATCH };
  const laneSize = { slots: MAX_BATCH, rows: mostRows(scratchLayout) };
  const { scratch, lane, cache } = await gpu.checked(
    "the K/V pool and activations",
    () => ({
      scratch: new Scratch(gpu, config, scratchLayout),
      lane: new Lane(gpu, "main", config, scratchLayout, laneSize),
      cache: new KvCache(kvGroupShapes(plan, stage, root).map((shape) => new KvGroup(gpu, kvLayout, shape))),
    }),
    () => undefined, // they are freed with `gpu`
  );
  const { context, sampler, rejected } = await testedContext({
    ...{ gpu, config, scratch, lane, kvLayout },
    kernels: KernelCache.of(gpu),
    subgroups: gpu.features.subgroups !== null,
    subgroupMatrix: gpu.features.subgroupMatrix,
    dp4a,
    gemvTuning: tuningsOn(gpu, shape.tunings),
  });
  const model = new Model(context);
  const stepper = await gpu.checked(
    "results on their way back",
    () => new Stepper(model, sampler, { chunkRows, stepsAhead }),
    (made) => made.destroy(),
  );
  stepper.stage = stage;
  for (const each of rejected) onVariantRejected?.(each);
  return { gpu, model, sampler, stepper, cache, embeddingRows: [] };
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

/** Puts all that a stage has in place. The parts own the weights once this resolves. */
export async function startParts(parts: EngineParts, plan: StagePlan, weights: StageWeights): Promise<void> {
  const { model, sampler, stepper, cache } = parts;
  const { rows } = stageContents(plan, stepper.stage);
  sampler.setPresentRows(rows); // before anything is awaited: a load that is aborted meanwhile leaves no buffer to write
  for (const [layer, layerWeights] of weights.layers) {
    const place = { group: cache.groupOf(layer), lane: model.context.lane };
    model.slots[layer]?.replace(await model.prepareLayer(layer, layerWeights, place));
  }
  await model.setOuter(present(weights.outer, "what surrounds the layers"), rows);
  model.useResiduals(await bindResiduals(model.context, cache.groups, model.context.lane, comingBoundaries(plan, stepper.stage)));
  parts.embeddingRows = rows;
}
