// From a model's name to an engine that answers.
import { abortable, linkAbort } from "../bytes/abort";
import type { ByteEvent } from "../bytes/byte-source";
import { EngineCore } from "../engine/engine-core";
import type { EngineOptions } from "../engine/engine-options";
import { describeModel } from "../engine/model-description";
import { droppedFiles, type FetchOptions, locateModel, type ModelFiles } from "../engine/model-files";
import { deviceLostError, Gpu, type GpuOptions } from "../gpu/device";
import { WeightLoader, WeightPlans } from "../stages/weight-loader";
import type { TokenizerEvent } from "../tokens/tokenizer";
import type { PlanOptions } from "../weights/model-weights";
import { Packer, type PackerEvent } from "../weights/packer";
import type { ChatEvent } from "./chat";
import { Engine } from "./engine";

/** News of what runs by itself. */
export type EngineEvent =
  | ByteEvent
  | TokenizerEvent
  | PackerEvent
  | ChatEvent
  /** The files are known and what they hold is supported; the weights' bytes follow. */
  | { readonly type: "load-start"; readonly model: string; readonly totalBytes: number; readonly adapter: string }
  /** Weights that have reached the GPU, in bytes of their files. */
  | { readonly type: "load-progress"; readonly loadedBytes: number; readonly totalBytes: number }
  | { readonly type: "load-end"; readonly loadMs: number }
  | { readonly type: "device-lost"; readonly reason: string };

export interface LoadOptions extends EngineOptions, PlanOptions, GpuOptions, Omit<FetchOptions, "onEvent"> {
  /** Ends the load; nothing is left behind. */
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: EngineEvent) => void;
  /** Another engine whose device, and compiled kernels, this one uses too. Its own device options then count for nothing, but for `maxBindingBytes`. */
  readonly shareDeviceWith?: Engine;
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
  const { onEvent = () => undefined } = options;
  options.signal?.throwIfAborted();
  const files = modelFiles(location, options);
  const gpu = options.shareDeviceWith?.shareDevice(options) ?? (await Gpu.request(options));
  const load = linkAbort(options.signal);
  void gpu.lost.then((info) => {
    onEvent({ type: "device-lost", reason: info.message || info.reason });
    load.abort(deviceLostError(info)); // by itself nothing on a lost device fails
  });
  const packer = new Packer({ onEvent });
  try {
    const engine = await loadOnto(gpu, files, { ...options, onEvent, packer, signal: load.signal });
    onEvent({ type: "load-end", loadMs: performance.now() - start });
    return engine;
  } catch (error) {
    if (!load.signal.aborted) load.abort((await gpu.lossError()) ?? error); // ends what else is under way
    gpu.dispose();
    throw load.signal.reason;
  } finally {
    load.unlink();
    packer.dispose();
  }
}

interface LoadContext extends LoadOptions {
  readonly signal: AbortSignal;
  readonly onEvent: (event: EngineEvent) => void;
  readonly packer: Packer;
}

/** What it has allocated when it fails is the caller's to free, with `gpu`; what still compiles then can allocate no more. */
async function loadOnto(gpu: Gpu, files: ModelFiles, context: LoadContext): Promise<Engine> {
  const { signal, onEvent, packer } = context;
  const { config, directory, tokenizer } = await describeModel(files, context);
  const plans = new WeightPlans(config, directory, context);
  const { totalBytes } = plans;
  signal.throwIfAborted();
  onEvent({ type: "load-start", model: files.name, totalBytes, adapter: gpu.adapterName });
  const core = await abortable(EngineCore.create(gpu, config, context), signal);
  // Compiles while bytes arrive; a failure shows again where the same kernels are awaited.
  core.model.warmUp(plans.layerShapes(), plans.outerShapes()).catch(() => undefined);
  let loadedBytes = 0;
  const onLoaded = (bytes: number) => {
    loadedBytes += bytes;
    onEvent({ type: "load-progress", loadedBytes, totalBytes });
  };
  await new WeightLoader(core.model, packer, plans, { onLoaded, signal }).loadAll();
  signal.throwIfAborted();
  return new Engine(core, tokenizer, onEvent);
}

function modelFiles(location: ModelLocation, options: LoadOptions): ModelFiles {
  if (typeof location === "string" || location instanceof URL) return locateModel(location, options);
  if (Array.isArray(location)) return droppedFiles(location, options.onEvent);
  if (typeof File !== "undefined" && location instanceof File) return droppedFiles([location], options.onEvent);
  return location as ModelFiles;
}
