// An engine core with its loader, for questions that the public API cannot answer.
import { EngineCore } from "../src/engine/engine-core";
import type { EngineOptions } from "../src/engine/engine-options";
import { WeightSupply } from "../src/engine/weight-supply";
import { Gpu, type GpuOptions } from "../src/gpu/device";
import { describeModel } from "../src/repository/model-description";
import type { ModelFiles } from "../src/repository/model-files";
import { defaultPlan, type StageOptions } from "../src/stages/default-plan";
import { ModelRecipe } from "../src/stages/model-recipe";
import { type StagePlan, wholePlan } from "../src/stages/plan";
import type { GenerationResult } from "../src/steps/generation-progress";
import { resolveSampling } from "../src/steps/sampling-settings";
import type { Sequence } from "../src/steps/sequence";
import type { GemvTunings } from "../src/tuning/gemv-tunings";

export interface LoadedCoreOptions extends GpuOptions, EngineOptions {
  /** Load only the first stage of the default plan. */
  readonly staged?: boolean;
  readonly stageOptions?: StageOptions;
  readonly tunings?: GemvTunings;
}

export interface LoadedCore {
  readonly core: EngineCore;
  readonly supply: WeightSupply;
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
  const supply = new WeightSupply(recipe);
  const identity = { weights: files.name, tokenizer: null, isStable: false };
  const source = { plan, identity, supply, ...(options.tunings && { tunings: options.tunings }) };
  const core = await EngineCore.create(gpu, config, source, { prefixCache: false, ...options });
  supply.use(gpu);
  await core.start(await supply.loadFirst(plan.stages[0]?.units ?? [], core.life));
  const dispose = () => {
    supply.rest();
    core.dispose();
  };
  return { core, supply, plan, dispose };
}

/** Greedy decoding without stop tokens, until `maxTokens` or until `onToken` returns false. */
export function generate(
  core: EngineCore,
  sequence: Sequence,
  maxTokens: number,
  onToken: (id: number, stage: number) => boolean = () => true,
): Promise<GenerationResult> {
  const sampling = resolveSampling({ temperature: 0 }, core.config.vocabSize);
  return core.generate({ sequence, sampling, stopIds: [], maxTokens, onToken });
}

/** Ids spread over the vocabulary, the same in every run. Their values do not change the speed. */
export function testIds(count: number, vocabSize: number): number[] {
  return Array.from({ length: count }, (_, index) => (index * 7919 + 13) % vocabSize);
}
