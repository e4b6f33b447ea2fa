// From a model's name to an engine that answers.
import { abortable, linkAbort, sleep } from "../bytes/abort";
import type { ByteEvent } from "../bytes/byte-source";
import { fnv1a, hashText } from "../bytes/fnv1a";
import { OpfsText } from "../bytes/opfs-text";
import { Delivery, type StageEvent, type StageInfo, stageInfo } from "../engine/delivery";
import { type CoreEvent, EngineCore, type EngineSource } from "../engine/engine-core";
import type { EngineOptions } from "../engine/engine-options";
import { guardedListener } from "../engine/guarded-listener";
import { WeightSupply } from "../engine/weight-supply";
import { LlmError } from "../errors";
import type { TensorDirectory } from "../formats/tensor-directory";
import { deviceLostError, Gpu, type GpuOptions } from "../gpu/device";
import type { ModelIdentity } from "../repository/identity";
import { describeModel, readPlanFile } from "../repository/model-description";
import { droppedFiles, type FetchOptions, locateModel, type ModelFiles, verifiedFiles } from "../repository/model-files";
import { defaultPlan, type StageOptions } from "../stages/default-plan";
import { parseFileHashes } from "../stages/file-hashes";
import { ModelRecipe } from "../stages/model-recipe";
import { type StagePlan, stageContents, wholePlan } from "../stages/plan";
import { parsePlanFile } from "../stages/plan-file";
import type { UpgradePolicy } from "../takeover/upgrader";
import type { Tokenizer, TokenizerEvent } from "../tokens/tokenizer";
import { tuneWhenIdle } from "../tuning/gemv-tuner";
import { GemvTunings, type TuningEvent, type TuningStore } from "../tuning/gemv-tunings";
import type { RejectedVariant } from "../tuning/self-test";
import type { ModelConfig } from "../weights/model-config";
import type { RecipeOptions } from "../weights/model-weights";
import type { PackerEvent } from "../weights/packer";
import { rowsOf } from "../weights/row-set";
import type { ChatEvent } from "./chat";
import { Engine } from "./engine";

/** News of what runs by itself. */
export type EngineEvent =
  | ByteEvent
  | TokenizerEvent
  | PackerEvent
  | ChatEvent
  | StageEvent
  | TuningEvent
  /** The files are known and what they hold is supported; the weights' bytes follow. */
  | { readonly type: "load-start"; readonly model: string; readonly totalBytes: number; readonly adapter: string }
  /**
   * Kernels for the device's subgroups or matrix units gave wrong answers in the self-test, or do not compile: the engine does without them, more
   * slowly. Told by each engine on the device, and again for the device that replaces a lost one. `GpuOptions.without` leaves them out untested.
   */
  | ({ readonly type: "variant-rejected" } & RejectedVariant)
  /** Whether the model has a plan of its own could not be found out: it comes as one without. */
  | { readonly type: "plan-unavailable"; readonly reason: string }
  /** Weights that are on the GPU, in bytes of their files: fewer again where a stage failed to come, or the device was lost. */
  | { readonly type: "load-progress"; readonly loadedBytes: number; readonly totalBytes: number }
  /** The first stage answers. */
  | { readonly type: "load-end"; readonly loadMs: number }
  /** The engine gets another device by itself, where `recoverDevice` lets it: `device-restored` or `device-recovery-failed` follows. */
  | { readonly type: "device-lost"; readonly reason: string }
  /** The same stage answers again; conversations go on. */
  | { readonly type: "device-restored"; readonly stage: StageInfo; readonly adapter: string; readonly recoveryMs: number }
  | { readonly type: "device-recovery-failed"; readonly error: unknown }
  /**
   * The device refused something that nobody waited for: our mistake or the driver's, and answers may be wrong from then on. Engines that share a
   * device all hear of it.
   */
  | { readonly type: "gpu-error"; readonly message: string };

export interface LoadOptions extends EngineOptions, RecipeOptions, GpuOptions, Omit<FetchOptions, "onEvent"> {
  /** Ends the load; nothing is left behind. */
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: EngineEvent) => void;
  /** Another engine whose device, and compiled kernels, this one uses too. Its own device options then count for nothing, but for `maxBindingBytes`. */
  readonly shareDeviceWith?: Engine;
  /**
   * In which stages the model comes. "auto", the default: as `progressive.json` beside the weights says, else by a plan made from the model's shape,
   * whose stages nobody has measured. "whole": all at once. Or a plan as that file holds it (docs/progressive-plans.md).
   */
  readonly plan?: "auto" | "whole" | object;
  /** For the plan made from the model's shape. */
  readonly stageOptions?: StageOptions;
  /** How the engine goes from stage to stage. Default "background". */
  readonly upgradePolicy?: UpgradePolicy;
  /** "manual": later stages are loaded when `engine.upgrade` asks for them. Default "automatic". */
  readonly delivery?: "automatic" | "manual";
  /** Whether a lost graphics device is replaced, the weights read again (from the cache, where there is one). Default true. */
  readonly recoverDevice?: boolean;
  /**
   * Which cut of decode's products is fastest depends on the device. "remembered", the default: once all weights are there and nobody asks anything,
   * the cuts near the usual ones are measured for some seconds, in turns of some milliseconds; the next load takes what was fastest, this one changes
   * nothing. Kept in OPFS (`crescendo-tuning.json`), or in a store of the application's own; without either, and on adapters in software, nothing is
   * measured. "off": nothing is measured, and the usual cuts are taken.
   */
  readonly tuning?: "remembered" | "off" | TuningStore;
  /** False: do without a tokenizer, and so without chats; for evaluation of token ids. Default true. */
  readonly needsTokenizer?: boolean;
}

/** "owner/name", "owner/name/file.gguf", a URL, a dropped file or a folder's files, or a place of the application's own. */
export type ModelLocation = string | URL | File | readonly File[] | ModelFiles;

/**
 * Loads a model and resolves when it can answer.
 *
 * ```ts
 * using engine = await loadEngine("HuggingFaceTB/SmolLM2-135M-Instruct", { onEvent: console.log });
 * ```
 *
 * @throws LlmError with a code that says what is wrong; the signal's reason when aborted. Nothing stays allocated then.
 */
export async function loadEngine(location: ModelLocation, options: LoadOptions = {}): Promise<Engine> {
  const start = performance.now();
  const onEvent = guardedListener(options.onEvent ?? (() => undefined));
  options.signal?.throwIfAborted();
  const files = modelFiles(location, { ...options, onEvent });
  const load = linkAbort(options.signal);
  let gpu: Gpu;
  let inspected: Promise<Inspected>;
  try {
    const requested = Promise.resolve(options.shareDeviceWith?.shareDevice(options) ?? Gpu.request(options));
    await Promise.race([requested, Promise.resolve()]); // where there is no WebGPU at all, nothing is fetched
    // The device takes as long to come as the files' headers do.
    inspected = inspect(files, { ...options, onEvent, signal: load.signal });
    inspected.catch(() => undefined); // seen below, where there is a device
    gpu = await requested;
  } catch (error) {
    load.abort(error);
    load.unlink();
    throw error;
  }
  tellOfTroubles(gpu, onEvent);
  void gpu.lost.then((info) => load.abort(deviceLostError(info, gpu.adapterName))); // by itself nothing on a lost device fails
  let supply: WeightSupply | null = null;
  try {
    const known = await inspected;
    const { totalBytes } = known.recipe;
    const onProgress = (loadedBytes: number) => onEvent({ type: "load-progress", loadedBytes, totalBytes });
    supply = new WeightSupply(known.recipe, { onProgress, onEvent });
    const engine = await loadOnto(gpu, known, { ...options, onEvent, supply, signal: load.signal });
    onEvent({ type: "load-end", loadMs: performance.now() - start });
    if (options.delivery !== "manual") void engine.resumeDelivery();
    return engine;
  } catch (error) {
    if (!load.signal.aborted) load.abort((await gpu.lossError()) ?? error); // ends what else is under way
    supply?.rest();
    gpu.dispose();
    throw load.signal.reason;
  } finally {
    load.unlink();
  }
}

interface InspectContext extends LoadOptions {
  readonly signal: AbortSignal;
  readonly onEvent: (event: EngineEvent) => void;
}

interface LoadContext extends InspectContext {
  readonly supply: WeightSupply;
}

interface Inspected {
  readonly name: string;
  readonly config: ModelConfig;
  readonly directory: TensorDirectory;
  readonly tokenizer: Tokenizer | null;
  readonly recipe: ModelRecipe;
  readonly plan: StagePlan;
  readonly tunings: GemvTunings | null;
}

/** What is known of the model before any of its weights is read. */
async function inspect(files: ModelFiles, context: InspectContext): Promise<Inspected> {
  const remembered = rememberedTunings(context);
  const planJson = await planOf(files, context);
  const { config, directory, tokenizer } = await describeModel(verified(files, planJson, context.onEvent), context);
  const recipe = new ModelRecipe(config, directory, context);
  const plan = stagePlan(files, planJson, { config, recipe, tokenizer }, context);
  const tunings = await abortable(remembered, context.signal);
  return { name: files.name, config, directory, tokenizer, recipe, plan, tunings };
}

/** On failure the caller frees everything by disposing `gpu`; kernels still compiling cannot allocate afterwards. */
async function loadOnto(gpu: Gpu, inspected: Inspected, context: LoadContext): Promise<Engine> {
  const { signal, onEvent, supply } = context;
  const { name, config, tokenizer, recipe, plan, tunings } = inspected;
  signal.throwIfAborted();
  supply.use(gpu);
  onEvent({ type: "load-start", model: name, totalBytes: recipe.totalBytes, adapter: gpu.adapterName });
  onEvent({ type: "stages-planned", stages: plan.stages.map((_, index) => stageInfo(plan, recipe, index)), plan });
  // Bytes come while what they need is allocated and compiled.
  const reads = linkAbort(signal);
  const loading = supply.loadFirst(plan.stages[0]?.units ?? [], reads.signal).finally(reads.unlink);
  loading.catch(() => undefined); // seen below
  const source = engineSource(inspected, context, (event) => tellOfCore(event, core, recipe, onEvent));
  const core: EngineCore = await abortable(EngineCore.create(gpu, config, source, context), signal).catch(async (error: unknown) => {
    reads.abort(error);
    await Promise.allSettled([loading]); // until then it writes to the device
    throw error;
  });
  const onStageEvent = stageListener(core, tunings, context);
  const delivery = new Delivery(core, supply, { policy: context.upgradePolicy ?? "background", onEvent: onStageEvent });
  // A failure to compile shows again where the same kernels are awaited.
  core.model.warmUp(recipe.layerShapes(), recipe.outerShapes(), stageContents(plan, 0).rows).catch(() => undefined);
  await abortable(core.start(await loading), signal);
  onStageEvent({ type: "stage-ready", stage: delivery.stageInfo(0), isLast: delivery.lastStage === 0 });
  if (delivery.lastStage === 0) supply.rest();
  signal.throwIfAborted();
  return new Engine(core, tokenizer, delivery, onEvent);
}

function engineSource(inspected: Inspected, context: LoadContext, onCoreEvent: (event: CoreEvent) => void): EngineSource {
  const { plan, tunings } = inspected;
  const { supply, onEvent, recoverDevice = true } = context;
  return {
    ...{ plan, supply, onEvent: onCoreEvent },
    identity: modelIdentity(inspected, context),
    onVariantRejected: (rejected) => onEvent({ type: "variant-rejected", ...rejected }),
    ...(recoverDevice && { anotherGpu: (signal) => requestAnother(context, signal) }),
    ...(tunings && { tunings }),
  };
}

function tellOfCore(event: CoreEvent, core: EngineCore, recipe: ModelRecipe, onEvent: (event: EngineEvent) => void): void {
  if (event.type === "recovered") {
    const stage = stageInfo(core.plan, recipe, core.stage);
    onEvent({ type: "device-restored", stage, adapter: core.gpu.adapterName, recoveryMs: event.recoveryMs });
  } else if (event.type === "recovery-failed") onEvent({ type: "device-recovery-failed", error: event.error });
  else onEvent(event);
}

/** Tells of stages. When the last one answers, every product of the model can be measured. */
function stageListener(core: EngineCore, tunings: GemvTunings | null, { onEvent, signal }: LoadContext): (event: StageEvent) => void {
  return (event) => {
    onEvent(event);
    if (tunings && event.type === "stage-ready" && event.isLast) void tuneWhenIdle(core, tunings, onEvent, { signal });
  };
}

function tellOfTroubles(gpu: Gpu, onEvent: (event: EngineEvent) => void): void {
  void gpu.lost.then(({ message, reason }) => onEvent({ type: "device-lost", reason: message || reason }));
  gpu.onError(({ message }) => onEvent({ type: "gpu-error", message }));
}

// A driver that was reset needs a moment; one that is gone for good does not come back within this.
const DEVICE_ATTEMPTS = 5;
const DEVICE_RETRY_MS = 500;

async function requestAnother(context: LoadContext, signal: AbortSignal): Promise<Gpu> {
  for (let attempt = 1; ; attempt++) {
    signal.throwIfAborted();
    try {
      const gpu = await Gpu.request(context);
      tellOfTroubles(gpu, context.onEvent);
      return gpu;
    } catch (error) {
      if (attempt === DEVICE_ATTEMPTS) throw error;
      await sleep(attempt * DEVICE_RETRY_MS, signal);
    }
  }
}

const TUNING_FILE = "crescendo-tuning.json";

async function rememberedTunings({ tuning = "remembered", onEvent }: InspectContext): Promise<GemvTunings | null> {
  if (tuning === "off") return null;
  if (tuning !== "remembered") return GemvTunings.read(tuning, onEvent);
  const hasOpfs = globalThis.navigator?.storage?.getDirectory !== undefined;
  return hasOpfs ? GemvTunings.read(new OpfsText(TUNING_FILE), onEvent) : null;
}

interface PlanJson {
  readonly value: unknown;
  /** For messages. */
  readonly where: string;
}

/** The plan that the caller or the model's maker wrote; null where there is none. */
async function planOf(files: ModelFiles, { plan = "auto", signal, onEvent }: InspectContext): Promise<PlanJson | null> {
  if (typeof plan === "object") return { value: plan, where: "the plan" };
  try {
    return await readPlanFile(files, signal);
  } catch (error) {
    // Without network a model comes from the cache, which need not know that it has no plan.
    if (!(error instanceof LlmError && error.code === "fetch-failed")) throw error;
    onEvent({ type: "plan-unavailable", reason: error.message });
    return null;
  }
}

/** The files, checked against the hashes that come with a plan. */
function verified(files: ModelFiles, planJson: PlanJson | null, onEvent: LoadContext["onEvent"]): ModelFiles {
  const value = planJson?.value;
  if (typeof value !== "object" || value === null || !("hashes" in value)) return files;
  const hashes = parseFileHashes(value.hashes, planJson?.where ?? "");
  return verifiedFiles(files, hashes, (source, range) => onEvent({ type: "hash-mismatch", source, range }));
}

interface KnownModel {
  readonly config: ModelConfig;
  readonly recipe: ModelRecipe;
  readonly tokenizer: Tokenizer | null;
}

function stagePlan(
  files: ModelFiles,
  planJson: PlanJson | null,
  { config, recipe, tokenizer }: KnownModel,
  { plan, stageOptions }: InspectContext,
): StagePlan {
  if (plan === "whole") return wholePlan(config);
  const { layerCount, vocabSize } = config;
  const requiredRows = rowsOf((tokenizer?.requiredIds() ?? []).filter((id) => id < vocabSize));
  const shape = { layerCount, vocabSize, requiredRows };
  if (planJson)
    return parsePlanFile(planJson.value, { ...shape, ...(files.weightsFile && { modelFile: files.weightsFile }) }, planJson.where);
  const { layerBytes, rowBytes, otherBytes } = recipe;
  return defaultPlan({ ...shape, layerBytes, rowBytes, otherBytes }, stageOptions);
}

/** Tells the weights of one model from those of another: what was computed with them is kept under it. */
function modelRoot({ name, tensors }: TensorDirectory): string {
  const [first] = tensors.values();
  return [name, tensors.size, first?.source.size, first?.source.version].join(" ");
}

function modelIdentity({ directory, tokenizer }: Inspected, { quantise }: RecipeOptions): ModelIdentity {
  const weights = `${modelRoot(directory)} ${JSON.stringify(quantise)}`;
  if (!tokenizer) return { weights, tokenizer: null, isStable: true };
  const spellings = Array.from({ length: tokenizer.vocabSize }, (_, id) => [...tokenizer.tokenBytes(id), 0]);
  return { weights, tokenizer: hashText(fnv1a(spellings.flat())), isStable: true };
}

function modelFiles(location: ModelLocation, options: LoadOptions): ModelFiles {
  if (typeof location === "string" || location instanceof URL) return locateModel(location, options);
  if (Array.isArray(location)) return droppedFiles(location, options.onEvent);
  if (typeof File !== "undefined" && location instanceof File) return droppedFiles([location], options.onEvent);
  return location as ModelFiles;
}
