// Engines without their face, for tests that look into sequences, or run models that no file holds.
import { Engine } from "../../src/chat/engine";
import { Delivery, type StageEvent } from "../../src/engine/delivery";
import { EngineCore } from "../../src/engine/engine-core";
import { WeightSupply } from "../../src/engine/weight-supply";
import type { EngineOptions, GenerationResult, ModelFiles, SamplingSettings } from "../../src/index";
import { describeModel, type ModelDescription } from "../../src/repository/model-description";
import { ModelRecipe } from "../../src/stages/model-recipe";
import { type StagePlan, wholePlan } from "../../src/stages/plan";
import { parsePlanFile } from "../../src/stages/plan-file";
import type { StageWeights } from "../../src/stages/stage-loader";
import { resolveSampling } from "../../src/steps/sampling-settings";
import type { Sequence } from "../../src/steps/sequence";
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
  const { core, supply } = await startCore(description, wholePlan(description.config), options);
  supply.end();
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
  const { core, supply } = await startCore(description, plan, options);
  const events: StageEvent[] = [];
  const delivery = new Delivery(core, supply, { policy: "background", onEvent: (event) => events.push(event) });
  const engine = new Engine(core, null, delivery);
  const never = new AbortController().signal;
  return {
    ...{ core, engine, events },
    load: (stage, from = stage - 1) => {
      const units = plan.stages.slice(from + 1, stage + 1).flatMap((each) => each.units);
      return supply.loadNext(units, core.model.weights, never);
    },
    dispose: () => engine.dispose(),
  };
}

async function startCore({ config, directory }: Pick<ModelDescription, "config" | "directory">, plan: StagePlan, options: EngineOptions) {
  const supply = new WeightSupply(new ModelRecipe(config, directory, {}));
  const identity = { weights: directory.name, tokenizer: null, isStable: true };
  const gpu = (await sharingEngine()).shareDevice();
  const core = await EngineCore.create(gpu, config, { plan, identity, supply }, { prefixCache: false, ...options });
  try {
    supply.use(core.gpu);
    await core.start(await supply.loadFirst(plan.stages[0]?.units ?? [], new AbortController().signal));
    return { core, supply };
  } catch (error) {
    supply.end();
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
  return core.generate({ sequence, sampling, stopIds, maxTokens, onToken, signal });
}

/** What a sequence of its own, with nothing cached, gives after `ids`. */
export async function generateAfresh(core: EngineCore, ids: readonly number[], options: ContinueOptions): Promise<readonly number[]> {
  const sequence = core.createSequence();
  sequence.append(ids);
  try {
    await continueSequence(core, sequence, options);
    return sequence.tokens.slice(ids.length);
  } finally {
    core.releaseSequence(sequence);
  }
}
