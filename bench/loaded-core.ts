// An engine core with its loader, for questions that the public API cannot answer.
import { EngineCore } from "../src/engine/engine-core";
import type { EngineOptions } from "../src/engine/engine-options";
import { Gpu, type GpuOptions } from "../src/gpu/device";
import { describeModel } from "../src/repository/model-description";
import type { ModelFiles } from "../src/repository/model-files";
import { defaultPlan, type StageOptions } from "../src/stages/default-plan";
import { ModelRecipe } from "../src/stages/model-recipe";
import { type StagePlan, wholePlan } from "../src/stages/plan";
import { StageLoader } from "../src/stages/stage-loader";
import type { GenerationResult } from "../src/steps/generation";
import { resolveSampling } from "../src/steps/sampling-settings";
import type { Sequence } from "../src/steps/sequence";
import type { GemvTunings } from "../src/tuning/gemv-tunings";
import { Packer } from "../src/weights/packer";

export interface LoadedCoreOptions extends GpuOptions, EngineOptions {
  /** Load only the first stage of the default plan. */
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

/** Greedy decoding without stop tokens, until `maxTokens` or until `onToken` returns false. */
export function generate(
  core: EngineCore,
  sequence: Sequence,
  maxTokens: number,
  onToken: (id: number, stage: number) => boolean = () => true,
): Promise<GenerationResult> {
  const sampling = resolveSampling({ temperature: 0 }, core.config.vocabSize);
  return core.takeTurn((run) => run({ sequence, sampling, stopIds: [], maxTokens, onToken }));
}

/** Ids spread over the vocabulary, the same in every run. Their values do not change the speed. */
export function testIds(count: number, vocabSize: number): number[] {
  return Array.from({ length: count }, (_, index) => (index * 7919 + 13) % vocabSize);
}
