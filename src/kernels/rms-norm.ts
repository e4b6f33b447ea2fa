// Root mean square normalisation of each row.
import wgsl from "../../shaders/rms-norm.wgsl?raw";
import { assert } from "../assert";
import { defineKernel, type KernelVariant } from "../gpu/kernel";
import { paddedColumns } from "../weight-format";
import type { StepShape } from "./step-shape";

export interface NormOptions {
  /** The hidden size; a multiple of 4. */
  readonly columns: number;
  readonly epsilon: number;
  readonly subgroups: boolean;
}

/** `x`, `y`: f32 [rows, paddedColumns(columns)]; `weight`: f32 [columns]. */
export const rmsNorm = defineKernel<"state" | "x" | "weight" | "y", NormOptions, StepShape>({
  name: "rms-norm",
  wgsl,
  bindings: ["state", "x", "weight", "y"],
  variant: normVariant,
  workgroups: (_, { rows }) => [rows, 1, 1],
});

export const rmsNormVariants: readonly NormOptions[] = [false, true].map((subgroups) => ({ columns: 100, epsilon: 1e-5, subgroups }));

/** The kernel variant, the same for both norms. */
export function normVariant({ columns, epsilon, subgroups }: NormOptions): KernelVariant {
  assert(columns % 4 === 0, `a norm over ${columns} columns, expected a multiple of 4`);
  return {
    defines: { COLUMNS: columns, ROW_VEC4S: paddedColumns(columns) / 4, WORKGROUP_SIZE: columns <= 512 ? 64 : 128, SUBGROUPS: subgroups },
    constants: { EPSILON: epsilon },
  };
}
