// Engines without their face, for tests that look into sequences, or run models that no file holds.
import { Engine } from "../../src/chat/engine";
import { Delivery, type StageEvent } from "../../src/engine/delivery";
import { EngineCore } from "../../src/engine/engine-core";
import type { EngineOptions, GenerationResult, ModelFiles, SamplingSettings } from "../../src/index";
import { describeModel, type ModelDescription } from "../../src/repository/model-description";
import { ModelRecipe } from "../../src/stages/model-recipe";
import { type StagePlan, wholePlan } from "../../src/stages/plan";
import { parsePlanFile } from "../../src/stages/plan-file";
import { StageLoader, type StageWeights } from "../../src/stages/stage-loader";
import { resolveSampling } from "../../src/steps/sampling-settings";
import type { Sequence } from "../../src/steps/sequence";
import { Packer } from "../../src/weights/packer";
import { sharingEngine, testModelFiles } from "./test-model";

/** The caller disposes of it. */
export async function loadTestCore(folder: string, options: EngineOptions = {}): Promise<EngineCore> {
  return coreOf(await describeModel(testModelFiles(folder), { needsTokenizer: false }), options);
}

/** An engine of the weights that `directory` lists. */
export async function coreOf(
  description: Pick<ModelDescription, "config" | "directory">,
  options: EngineOptions = {},
): Promise<EngineCore> {
  const { core, packer } = await startCore(description, wholePlan(description.config), options);
  packer.dispose();
  return core;
}

export interface StagedCore {
  readonly core: EngineCore;
  /** Its face. */
  readonly engine: Engine;
  /** What was told of upgrades by `engine`. */
  readonly events: readonly StageEvent[];
  /** The weights that `stage` has and `from`, the stage before it unless given, lacks. */
  load(stage: number, from?: number): Promise<StageWeights>;
  dispose(): void;
}

/** An engine at the first stage of a plan that is given as its file has it. The caller disposes of it. */
export async function loadStagedCore(model: string | ModelFiles, planFile: object, options: EngineOptions = {}): Promise<StagedCore> {
  const files = typeof model === "string" ? testModelFiles(model) : model;
  const description = await describeModel(files, { needsTokenizer: false });
  const plan = parsePlanFile(planFile, { ...description.config, requiredRows: [] }, files.name);
  const { core, loader, packer, recipe } = await startCore(description, plan, options);
  const events: StageEvent[] = [];
  const onEvent = (event: StageEvent) => events.push(event);
  const delivery = new Delivery(core, loader, recipe, { policy: "background", onEvent, onEnd: () => packer.dispose() });
  const engine = new Engine(core, null, delivery);
  return {
    ...{ core, engine, events },
    load: (stage, from = stage - 1) => {
      const units = plan.stages.slice(from + 1, stage + 1).flatMap((each) => each.units);
      return loader.loadNext(units, core.model.weights);
    },
    dispose: () => engine.dispose(),
  };
}

async function startCore({ config, directory }: Pick<ModelDescription, "config" | "directory">, plan: StagePlan, options: EngineOptions) {
  const stages = { plan, root: directory.name, fetchRows: async () => [], holdReads: () => () => undefined };
  const core = await EngineCore.create((await sharingEngine()).shareDevice(), config, stages, { prefixCache: false, ...options });
  const packer = new Packer();
  try {
    const recipe = new ModelRecipe(config, directory, {});
    const loader = new StageLoader(core.gpu, packer, recipe);
    await core.start(await loader.loadFirst(plan.stages[0]?.units ?? []));
    return { core, loader, packer, recipe };
  } catch (error) {
    packer.dispose();
    core.dispose();
    throw error;
  }
}

export interface ContinueOptions extends SamplingSettings {
  readonly maxTokens: number;
  readonly stopIds?: readonly number[];
  readonly signal?: AbortSignal;
  /** As in a generation request: false ends the run. */
  readonly onToken?: (id: number, stage: number) => boolean;
}

/** One run of a sequence that stays: greedy, unless the options say otherwise. */
export function continueSequence(core: EngineCore, sequence: Sequence, options: ContinueOptions): Promise<GenerationResult> {
  const { maxTokens, stopIds = [], signal, onToken = () => true } = options;
  const sampling = resolveSampling({ temperature: 0, ...options }, core.config.vocabSize);
  return core.takeTurn((generate) => generate({ sequence, sampling, stopIds, maxTokens, onToken }), signal);
}

/** What a sequence of its own, with nothing cached, gives after `ids`. */
export async function generateAfresh(core: EngineCore, ids: readonly number[], options: ContinueOptions): Promise<readonly number[]> {
  const sequence = core.createSequence();
  sequence.append(ids);
  try {
    await continueSequence(core, sequence, options);
    return sequence.tokens.slice(ids.length);
  } finally {
    await core.releaseSequence(sequence);
  }
}
