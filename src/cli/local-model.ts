// A model on this machine's disk, on this machine's GPU through Dawn.
import { existsSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { openFile } from "../bytes/file-source";
import { LlmError } from "../errors";
import { type Engine, type EngineEvent, type LoadOptions, loadEngine, type ModelFiles } from "../index";
import { ProgressBar } from "./progress-bar";
import { UsageError } from "./usage";

/** The flags that every command takes, for `parseArgs`. */
export const MODEL_OPTIONS = {
  model: { type: "string" },
  context: { type: "string" },
  kv: { type: "string" },
  quantise: { type: "string" },
  without: { type: "string" },
} as const;

export type ModelFlags = { readonly [Name in keyof typeof MODEL_OPTIONS]?: string | undefined };

/** The files beside `path`, or in it where it is a folder. @throws LlmError "not-found" */
export function localFiles(path: string): ModelFiles {
  if (!existsSync(path)) throw new LlmError("not-found", `${path}: no such file or folder.`);
  const isFolder = statSync(path).isDirectory();
  const folder = isFolder ? path : dirname(path);
  return {
    name: path,
    weightsFile: isFolder ? null : basename(path),
    open: async (file, signal) => {
      const target = join(folder, file);
      return existsSync(target) ? openFile(target, signal ? { signal } : {}) : null;
    },
  };
}

/** Loads with a progress bar on standard error. */
export async function loadLocalEngine(flags: ModelFlags, defaults: LoadOptions): Promise<Engine> {
  if (!flags.model) throw new UsageError("--model is missing");
  const bar = new ProgressBar("loading", "bytes");
  const onEvent = (event: EngineEvent) => {
    if (event.type === "load-progress") bar.update(event.loadedBytes, event.totalBytes);
    if (event.type === "load-end") bar.end();
    if (event.type === "tokenizer-unsupported") console.error(event);
  };
  const gpu = await dawn();
  const context = flags.context === undefined ? {} : { contextLength: parseCount("--context", flags.context) };
  return loadEngine(localFiles(flags.model), { ...defaults, ...context, ...loadFlags(flags), gpu, onEvent });
}

function loadFlags({ kv = "f16", quantise, without }: ModelFlags): LoadOptions {
  if (kv !== "f16" && kv !== "f32") throw new UsageError(`--kv is ${kv}, not f16 or f32`);
  if (quantise !== undefined && quantise !== "q8" && quantise !== "q4") throw new UsageError(`--quantise is ${quantise}, not q8 or q4`);
  const left = without?.split(",") ?? [];
  const features = left.filter((feature) => feature === "f16" || feature === "subgroups");
  if (features.length < left.length) throw new UsageError(`--without is ${without}, not of f16 and subgroups`);
  return { kvFormat: kv, without: features, ...(quantise && { quantise }) };
}

export function parseCount(flag: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0) throw new UsageError(`${flag} is ${text}, not a whole number`);
  return value;
}

export function parseNumber(flag: string, text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value)) throw new UsageError(`${flag} is ${text}, not a number`);
  return value;
}

async function dawn(): Promise<GPU> {
  try {
    const { create, globals } = await import("webgpu");
    Object.assign(globalThis, globals);
    return create(["enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia"]);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : cause;
    throw new LlmError("no-webgpu", `Node needs the package "webgpu" (Dawn): npm install webgpu. (${reason})`, { cause });
  }
}
