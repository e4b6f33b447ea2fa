// All that a model's files say before any of its weights is read.
import type { ByteEvent } from "../bytes/byte-source";
import type { TensorDirectory } from "../formats/tensor-directory";
import { ModelRecipe } from "../stages/model-recipe";
import type { StagePlan } from "../stages/plan";
import type { Tokenizer } from "../tokens/tokenizer";
import type { ModelConfig } from "../weights/model-config";
import type { RecipeOptions } from "../weights/model-weights";
import type { ModelFiles } from "./file-answer";
import { type IdentityEvent, type ModelIdentity, weightsIdentity } from "./identity";
import { type DescriptionEvent, describeModel } from "./model-description";
import { verifiedFiles } from "./model-files";
import { chosenPlan, hashesOfPlan, type PlanChoice, type PlanEvent, writtenPlan } from "./plan-choice";

/** News of what a repository holds. */
export type RepositoryEvent = DescriptionEvent | IdentityEvent | PlanEvent;

export interface InspectOptions extends PlanChoice, RecipeOptions {
  /** False: the files need no tokenizer (evaluation of ids). Default true. */
  readonly needsTokenizer?: boolean;
  /** A Jinja template that takes the place of the files' own. */
  readonly chatTemplate?: string;
  readonly signal?: AbortSignal;
  readonly onEvent: (event: RepositoryEvent | ByteEvent) => void;
}

export interface InspectedModel {
  /** For messages. */
  readonly name: string;
  readonly config: ModelConfig;
  readonly directory: TensorDirectory;
  readonly tokenizer: Tokenizer | null;
  readonly identity: ModelIdentity;
  readonly recipe: ModelRecipe;
  readonly plan: StagePlan;
}

/**
 * Asks for the plan and for all other files at once. What the plan's hashes name is not read past its opening before they are there.
 *
 * @throws LlmError of the first that is wrong: the plan, the weights' header, the configuration, the tokenizer; the signal's reason when aborted.
 */
export async function inspectModel(files: ModelFiles, options: InspectOptions): Promise<InspectedModel> {
  const { onEvent } = options;
  const writing = writtenPlan(files, options);
  const onMismatch = (source: string, range: { readonly start: number; readonly end: number }) =>
    onEvent({ type: "hash-mismatch", source, range });
  const describing = describeModel(verifiedFiles(files, writing.then(hashesOfPlan), onMismatch), options);
  await Promise.allSettled([writing, describing]);
  const written = await writing;
  const { config, directory, tokenizer, tokenizerIdentity } = await describing;
  const recipe = new ModelRecipe(config, directory, options);
  const plan = chosenPlan(written, { files, config, recipe, tokenizer }, options);
  const { weights, unknownSources } = weightsIdentity({ config, directory, changes: options });
  if (unknownSources.length > 0) onEvent({ type: "identity-unknown", sources: unknownSources });
  const identity = { weights, tokenizer: tokenizerIdentity, isStable: unknownSources.length === 0 };
  return { name: files.name, config, directory, tokenizer, identity, recipe, plan };
}
