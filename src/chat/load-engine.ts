// From a model's name to an engine that answers.
import { abortable, linkAbort, sleep } from "../bytes/abort";
import type { ByteEvent } from "../bytes/byte-source";
import { OpfsText } from "../bytes/opfs-text";
import { Delivery, type StageEvent, type StageInfo, stageInfo } from "../engine/delivery";
import { type CoreEvent, EngineCore, type EngineSource } from "../engine/engine-core";
import type { EngineOptions } from "../engine/engine-options";
import { guardedListener } from "../engine/guarded-listener";
import { WeightSupply } from "../engine/weight-supply";
import { deviceLostError, Gpu, type GpuOptions } from "../gpu/device";
import { type InspectedModel, inspectModel, type RepositoryEvent } from "../repository/inspect-model";
import { type FetchOptions, type ModelFiles, type ModelLocation, modelFiles } from "../repository/model-files";
import type { PlanChoice } from "../repository/plan-choice";
import type { ModelRecipe } from "../stages/model-recipe";
import { stageContents } from "../stages/plan";
import type { UpgradePolicy } from "../takeover/upgrader";
import { tuneWhenIdle } from "../tuning/gemv-tuner";
import { GemvTunings, type TuningEvent, type TuningStore } from "../tuning/gemv-tunings";
import type { RejectedVariant } from "../tuning/self-test";
import type { RecipeOptions } from "../weights/model-weights";
import type { PackerEvent } from "../weights/packer";
import type { ChatEvent } from "./chat";
import { Engine } from "./engine";

/** News of what runs by itself. */
export type EngineEvent =
  | ByteEvent
  | RepositoryEvent
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

export interface LoadOptions extends EngineOptions, PlanChoice, RecipeOptions, GpuOptions, Omit<FetchOptions, "onEvent"> {
  /** Ends the load; nothing is left behind. */
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: EngineEvent) => void;
  /** Another engine whose device, and compiled kernels, this one uses too. Its own device options then count for nothing, but for `maxBindingBytes`. */
  readonly shareDeviceWith?: Engine;
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
  /** A Jinja chat template that takes the place of the files' own, for a model that has none or one that cannot be read. */
  readonly chatTemplate?: string;
}

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
    supply?.end();
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

interface Inspected extends InspectedModel {
  readonly tunings: GemvTunings | null;
}

/** What the files say, and what is remembered of such models on this device. */
async function inspect(files: ModelFiles, context: InspectContext): Promise<Inspected> {
  const [model, tunings] = await Promise.all([inspectModel(files, context), abortable(rememberedTunings(context), context.signal)]);
  return { ...model, tunings };
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
  const { plan, identity, tunings } = inspected;
  const { supply, onEvent, recoverDevice = true } = context;
  return {
    ...{ plan, identity, supply, onEvent: onCoreEvent },
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
