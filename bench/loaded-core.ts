// An engine without its chat: what measurements inside it stand on.
import { EngineCore } from "../src/engine/engine-core";
import type { EngineOptions } from "../src/engine/engine-options";
import { Gpu, type GpuOptions } from "../src/gpu/device";
import { describeModel } from "../src/repository/model-description";
import type { ModelFiles } from "../src/repository/model-files";
import { defaultPlan, type StageOptions } from "../src/stages/default-plan";
import { ModelRecipe } from "../src/stages/model-recipe";
import { type StagePlan, wholePlan } from "../src/stages/plan";
import { StageLoader } from "../src/stages/stage-loader";
import type { GemvTunings } from "../src/tuning/gemv-tunings";
import { Packer } from "../src/weights/packer";

export interface LoadedCoreOptions extends GpuOptions, EngineOptions {
  /** The first stage of the default plan, instead of the whole model. */
  readonly staged?: boolean;
  readonly stageOptions?: StageOptions;
  readonly tunings?: GemvTunings;
}

export interface LoadedCore {
  readonly core: EngineCore;
  readonly loader: StageLoader;
  readonly plan: StagePlan;
  dispose(): void;
}

export async function loadCore(files: ModelFiles, options: LoadedCoreOptions = {}): Promise<LoadedCore> {
  const { config, directory } = await describeModel(files, { needsTokenizer: false });
  const recipe = new ModelRecipe(config, directory, {});
  const { layerBytes, rowBytes, otherBytes } = recipe;
  const shape = { ...config, layerBytes, rowBytes, otherBytes, requiredRows: [] };
  const plan = options.staged ? defaultPlan(shape, options.stageOptions) : wholePlan(config);
  const gpu = await Gpu.request(options);
  const packer = new Packer();
  const loader = new StageLoader(gpu, packer, recipe);
  const stages = {
    ...{ plan, root: files.name, holdReads: () => () => undefined },
    fetchRows: loader.fetchEmbeddingRows.bind(loader),
    ...(options.tunings && { tunings: options.tunings }),
  };
  const core = await EngineCore.create(gpu, config, stages, { prefixCache: false, ...options });
  await core.start(await loader.loadFirst(plan.stages[0]?.units ?? []));
  const dispose = () => {
    packer.dispose();
    core.dispose();
  };
  return { core, loader, plan, dispose };
}

/** Ids do not change the speed; these are spread over the vocabulary, the same in every run. */
export function testIds(count: number, vocabSize: number): number[] {
  return Array.from({ length: count }, (_, index) => (index * 7919 + 13) % vocabSize);
}
