// Loads a model from disk, on this machine's GPU through Dawn.
import { existsSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { openFile } from "../bytes/file-source";
import { LlmError } from "../errors";
import { type Engine, type EngineEvent, type LoadOptions, loadEngine, type ModelFiles } from "../index";
import { parseChoice, parseCount } from "./flag-values";
import { readPlanFlag } from "./plan-flag";
import { ProgressBar } from "./progress-bar";
import { UsageError } from "./usage";

/** The flags that every command takes, for `parseArgs`. */
export const MODEL_OPTIONS = {
  model: { type: "string" },
  context: { type: "string" },
  kv: { type: "string" },
  quantise: { type: "string" },
  without: { type: "string" },
  plan: { type: "string" },
} as const;

export type ModelFlags = { readonly [Name in keyof typeof MODEL_OPTIONS]?: string | undefined };

/** The files beside `path`, or in it if it is a folder. @throws LlmError "not-found" */
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

/**
 * Loads with a progress bar on standard error. An "optional" tokenizer is read if there is one.
 *
 * @throws UsageError for the flags; LlmError
 */
export async function loadLocalEngine(
  flags: ModelFlags,
  defaults: LoadOptions,
  tokenizer: "required" | "optional" | "none" = "required",
): Promise<Engine> {
  if (!flags.model) throw new UsageError("--model is missing");
  const options = loadFlags(flags);
  const { files, plan } = readPlanFlag(flags.plan ?? "auto", localFiles(flags.model));
  const needsTokenizer = tokenizer === "required" || (tokenizer === "optional" && (await hasTokenizer(files)));
  const bar = new ProgressBar("loading", "bytes");
  let isLoading = true;
  const onEvent = (event: EngineEvent) => {
    if (event.type === "load-progress" && isLoading) bar.update(event.loadedBytes, event.totalBytes);
    if (event.type === "stage-ready" && isLoading) {
      // Later stages load while other output is shown.
      isLoading = false;
      bar.end();
    }
    if (event.type === "tokenizer-unsupported") console.error(event);
    defaults.onEvent?.(event);
  };
  return loadEngine(files, { ...defaults, ...options, plan, needsTokenizer, gpu: await dawn(), onEvent });
}

async function hasTokenizer(files: ModelFiles): Promise<boolean> {
  return /\.gguf$/i.test(files.weightsFile ?? "") || (await files.open("tokenizer.json")) !== null;
}

function loadFlags({ context, kv = "f16", quantise, without }: ModelFlags): LoadOptions {
  const left = without?.split(",") ?? [];
  const features = left.filter((feature) => feature === "f16" || feature === "subgroups" || feature === "subgroup-matrix");
  if (features.length < left.length) throw new UsageError(`--without is ${without}, expected a list of f16, subgroups and subgroup-matrix`);
  return {
    kvFormat: parseChoice("--kv", kv, ["f16", "f32"]),
    without: features,
    ...(quantise !== undefined && { quantise: parseChoice("--quantise", quantise, ["q8", "q4"]) }),
    ...(context !== undefined && { contextLength: parseCount("--context", context) }),
  };
}

async function dawn(): Promise<GPU> {
  try {
    const { create } = await import("webgpu");
    return create(["enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia"]);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : cause;
    throw new LlmError("no-webgpu", `Node needs the package "webgpu" (Dawn): npm install webgpu. (${reason})`, { cause });
  }
}
