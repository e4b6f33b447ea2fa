// Every kernel of src/kernels, with the variants that stand beside its definition.
import type { KernelDefinition } from "../../../src/gpu/kernel";

type AnyKernel = KernelDefinition<string, unknown, unknown>;

export interface ExportedKernel {
  /** Of the export. */
  readonly name: string;
  readonly kernel: AnyKernel;
  /** Options of each; none where they are not declared. */
  readonly variants: readonly unknown[];
}

const modules = import.meta.glob<Record<string, unknown>>("../../../src/kernels/*.ts", { eager: true });

export const exportedKernels: readonly ExportedKernel[] = Object.values(modules).flatMap((module) =>
  Object.entries(module).flatMap(([name, value]) => {
    if (!isKernel(value)) return [];
    const variants: unknown = module[`${name}Variants`];
    return [{ name, kernel: value, variants: Array.isArray(variants) ? variants : [] }];
  }),
);

function isKernel(value: unknown): value is AnyKernel {
  return typeof value === "object" && value !== null && "wgsl" in value && "workgroups" in value;
}
