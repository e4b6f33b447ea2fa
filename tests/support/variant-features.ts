// Which optional features of WGSL a kernel's variant asks for, read from what the compiler would see.
import type { Gpu } from "../../src/gpu/device";
import type { KernelDefinition } from "../../src/gpu/kernel";
import { preprocess } from "../../src/gpu/preprocess";

const INCLUDES = Object.fromEntries(
  Object.entries(import.meta.glob<string>("../../shaders/include/*.wgsl", { query: "?raw", import: "default", eager: true })).map(
    ([path, text]) => [path.slice(path.lastIndexOf("/") + 1), text],
  ),
);

/** The WGSL of a variant. */
export function variantCode<Binding extends string, Options, Shape>(
  definition: KernelDefinition<Binding, Options, Shape>,
  options: Options,
): string {
  return preprocess(definition.wgsl, definition.variant(options).defines, INCLUDES);
}

/** What the code's `enable` lines name, such as "f16". */
export function enabledFeatures(code: string): string[] {
  return [...code.matchAll(/^\s*enable\s+([^;]+);/gm)].flatMap(([, list = ""]) => list.split(",").map((name) => name.trim()));
}

/** Why the device cannot run code with these features, or null if it can. */
export function missingFeature(gpu: Gpu, features: readonly string[]): string | null {
  if (features.includes("f16") && !gpu.features.f16) return "the adapter has no shader-f16";
  if (features.includes("subgroups") && !gpu.features.subgroups) return "the adapter has no subgroups";
  if (features.includes("chromium_experimental_subgroup_matrix") && !gpu.features.subgroupMatrix)
    return "the adapter has no subgroup matrices";
  return null;
}
