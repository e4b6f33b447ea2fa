// What an engine has on one graphics device: made for a stage, and made again for the same stage when the device is lost.
import { present } from "../assert";
import type { Gpu } from "../gpu/device";
import { KernelCache } from "../gpu/kernel";
import { KvCache, KvGroup, type KvLayout } from "../kv/kv-cache";
import { Lane } from "../model/lane";
import { Model } from "../model/model";
import type { ProgramContext } from "../model/program-context";
import { bindResiduals } from "../model/residual-steps";
import { activationStrides, Scratch } from "../model/scratch";
import { comingBoundaries, kvGroupShapes } from "../stages/kv-groups";
import { type StagePlan, stageContents } from "../stages/plan";
import type { StageWeights } from "../stages/stage-loader";
import type { ModelConfig } from "../weights/model-config";
import type { RowSet } from "../weights/row-set";
import { type EngineOptions, type ResolvedEngineOptions, resolveEngineOptions } from "./engine-options";
import { Sampler } from "./sampler";
import { Stepper } from "./stepper";

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
  /** Names the model's files and how K/V is stored: signatures begin with it. */
  readonly root: string;
  readonly options: ResolvedEngineOptions;
}

/** @throws LlmError "bad-request" for an option out of range. */
export function partsShape(config: ModelConfig, { plan, root }: Pick<PartsShape, "plan" | "root">, options: EngineOptions): PartsShape {
  const resolved = resolveEngineOptions(options, config);
  return { config, plan, root: `${root} ${resolved.kvFormat} K/V`, options: resolved };
}

/**
 * Allocates cache and scratch and compiles the sampler.
 *
 * @throws LlmError "out-of-memory" | "gpu-error"; what was made by then is freed with `gpu`, by the caller.
 */
export async function createParts(gpu: Gpu, { config, plan, root, options }: PartsShape, stage: number): Promise<EngineParts> {
  const { contextLength, poolLength, pageSize, chunkRows, stepsAhead, kvFormat } = options;
  const kvLayout: KvLayout = {
    kvHeadCount: config.kvHeadCount,
    headDim: config.headDim,
    pageSize,
    pageCount: Math.ceil(poolLength / pageSize),
    format: kvFormat,
    residualStride: activationStrides(config).hidden,
  };
  const scratchLayout = { chunkRows, contextLength, pageSize };
  const { scratch, lane, cache } = await gpu.checked(
    "the K/V pool and activations",
    () => ({
      scratch: new Scratch(gpu, config, scratchLayout),
      lane: new Lane(gpu, "main", config, scratchLayout),
      cache: new KvCache(kvGroupShapes(plan, stage, root).map((shape) => new KvGroup(gpu, kvLayout, shape))),
    }),
    () => undefined, // they are freed with `gpu`
  );
  const context: ProgramContext = {
    ...{ gpu, config, scratch, lane, kvLayout },
    kernels: KernelCache.of(gpu),
    subgroups: gpu.features.subgroups !== null,
    subgroupMatrix: gpu.features.subgroupMatrix,
  };
  const model = new Model(context);
  const sampler = await Sampler.create(context);
  const stepper = await gpu.checked(
    "results on their way back",
    () => new Stepper(model, sampler, { chunkRows, stepsAhead }),
    (made) => made.destroy(),
  );
  stepper.stage = stage;
  return { gpu, model, sampler, stepper, cache, embeddingRows: [] };
}

/** Puts all that a stage has in place. The parts own the weights once this resolves. */
export async function startParts(parts: EngineParts, plan: StagePlan, weights: StageWeights): Promise<void> {
  const { model, sampler, stepper, cache } = parts;
  const { rows } = stageContents(plan, stepper.stage);
  for (const [layer, layerWeights] of weights.layers) {
    const place = { group: cache.groupOf(layer), lane: model.context.lane };
    model.slots[layer]?.replace(await model.prepareLayer(layer, layerWeights, place));
  }
  await model.setOuter(present(weights.outer, "what surrounds the layers"), rows);
  model.useResiduals(await bindResiduals(model.context, cache.groups, model.context.lane, comingBoundaries(plan, stepper.stage)));
  sampler.setPresentRows(rows);
  parts.embeddingRows = rows;
}
