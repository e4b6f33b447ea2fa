// In which stages a model comes: as the caller says, as the model's maker says beside the weights, or by a plan made from its shape.
import { LlmError } from "../errors";
import { defaultPlan, type StageOptions } from "../stages/default-plan";
import { parseFileHashes } from "../stages/file-hashes";
import type { ModelRecipe } from "../stages/model-recipe";
import { type StagePlan, wholePlan } from "../stages/plan";
import { parsePlanFile } from "../stages/plan-file";
import type { Tokenizer } from "../tokens/tokenizer";
import type { ModelConfig } from "../weights/model-config";
import { rowsOf } from "../weights/row-set";
import type { ModelFiles } from "./file-answer";
import { type DescriptionEvent, readPlanFile } from "./model-description";

export type PlanEvent =
  /** Whether the model has a plan of its own could not be found out: it comes as one without. */
  { readonly type: "plan-unavailable"; readonly reason: string };

export interface PlanChoice {
  /**
   * In which stages the model comes. "auto", the default: as `progressive.json` beside the weights says, else by a plan made from the model's shape,
   * whose stages nobody has measured. "whole": all at once. Or a plan as that file holds it (docs/progressive-plans.md).
   */
  readonly plan?: "auto" | "whole" | object;
  /** For the plan made from the model's shape. */
  readonly stageOptions?: StageOptions;
}

/** A plan as its file has it, not checked yet. */
export interface PlanJson {
  readonly value: unknown;
  /** For messages. */
  readonly where: string;
}

export interface PlanContext extends PlanChoice {
  readonly signal?: AbortSignal;
  readonly onEvent: (event: PlanEvent | DescriptionEvent) => void;
}

/** The plan that the caller or the model's maker wrote; null where there is none. @throws LlmError of the source. */
export async function writtenPlan(files: ModelFiles, { plan = "auto", signal, onEvent }: PlanContext): Promise<PlanJson | null> {
  if (typeof plan === "object") return { value: plan, where: "the plan" };
  try {
    return await readPlanFile(files, { ...(signal && { signal }), onEvent });
  } catch (error) {
    // Without network a model comes from the cache, which need not know that it has no plan.
    if (!(error instanceof LlmError && error.code === "fetch-failed")) throw error;
    onEvent({ type: "plan-unavailable", reason: error.message });
    return null;
  }
}

/** The hashes that come with a plan; none where there are none. @throws LlmError "bad-file" */
export function hashesOfPlan(written: PlanJson | null): ReturnType<typeof parseFileHashes> {
  const value = written?.value;
  if (typeof value !== "object" || value === null || !("hashes" in value)) return new Map();
  return parseFileHashes(value.hashes, written?.where ?? "");
}

export interface PlannedModel {
  readonly files: ModelFiles;
  readonly config: ModelConfig;
  readonly recipe: ModelRecipe;
  readonly tokenizer: Tokenizer | null;
}

/** The plan by which the model comes. @throws LlmError "bad-file" where the written one is wrong. */
export function chosenPlan(written: PlanJson | null, model: PlannedModel, { plan, stageOptions }: PlanChoice): StagePlan {
  const { files, config, recipe, tokenizer } = model;
  if (plan === "whole") return wholePlan(config);
  const { layerCount, vocabSize } = config;
  const requiredRows = rowsOf((tokenizer?.requiredIds() ?? []).filter((id) => id < vocabSize));
  const shape = { layerCount, vocabSize, requiredRows };
  if (written) return parsePlanFile(written.value, { ...shape, ...(files.weightsFile && { modelFile: files.weightsFile }) }, written.where);
  const { layerBytes, rowBytes, otherBytes } = recipe;
  return defaultPlan({ ...shape, layerBytes, rowBytes, otherBytes }, stageOptions);
}
