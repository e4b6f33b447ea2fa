// Layer normalisation of each row.
import wgsl from "../../shaders/layer-norm.wgsl?raw";
import { defineKernel } from "../gpu/kernel";
import { type NormOptions, normVariant } from "./rms-norm";
import type { StepShape } from "./step-shape";

/** `x`, `y`: f32 [rows, paddedColumns(columns)]; `weight`, `bias`: f32 [columns]. */
export const layerNorm = defineKernel<"state" | "x" | "weight" | "bias" | "y", NormOptions, StepShape>({
  name: "layer-norm",
  wgsl,
  bindings: ["state", "x", "weight", "bias", "y"],
  variant: normVariant,
  workgroups: (_, { rows }) => [rows, 1, 1],
});

export const layerNormVariants: readonly NormOptions[] = [false, true].map((subgroups) => ({ columns: 100, epsilon: 1e-5, subgroups }));
