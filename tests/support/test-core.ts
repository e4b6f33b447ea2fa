// Engines without their face, for tests that look into sequences, or run models that no file holds.
import { EngineCore } from "../../src/engine/engine-core";
import { describeModel, type ModelDescription } from "../../src/engine/model-description";
import { resolveSampling } from "../../src/engine/sampling-settings";
import type { Sequence } from "../../src/engine/sequence";
import type { EngineOptions, GenerationResult, SamplingSettings } from "../../src/index";
import { wholePlan } from "../../src/stages/plan";
import { StageLoader } from "../../src/stages/stage-loader";
import { WeightPlans } from "../../src/stages/weight-plans";
import { Packer } from "../../src/weights/packer";
import { sharingEngine, testModelFiles } from "./test-model";

/** The caller disposes of it. */
export async function loadTestCore(folder: string, options: EngineOptions = {}): Promise<EngineCore> {
  return coreOf(await describeModel(testModelFiles(folder), { needsTokenizer: false }), options);
}

/** An engine of the weights that `directory` lists. */
export async function coreOf(
  { config, directory }: Pick<ModelDescription, "config" | "directory">,
  options: EngineOptions = {},
): Promise<EngineCore> {
  const plan = wholePlan(config);
  const stages = { plan, root: directory.name, fetchRows: async () => [], holdReads: () => () => undefined };
  const core = await EngineCore.create((await sharingEngine()).shareDevice(), config, stages, options);
  const packer = new Packer();
  try {
    const loader = new StageLoader(core.gpu, packer, new WeightPlans(config, directory, {}));
    await core.start(await loader.loadFirst(plan.stages[0]?.units ?? []));
    return core;
  } catch (error) {
    core.dispose();
    throw error;
  } finally {
    packer.dispose();
  }
}

export interface ContinueOptions extends SamplingSettings {
  readonly maxTokens: number;
  readonly stopIds?: readonly number[];
  readonly signal?: AbortSignal;
  /** As in a generation request: false ends the run. */
  readonly onToken?: (id: number) => boolean;
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
