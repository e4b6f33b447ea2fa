// Layer normalisation of each row.
import wgsl from "../../shaders/layer-norm.wgsl?raw";
import { defineKernel } from "../gpu/kernel";
import { type NormOptions, normVariant } from "./rms-norm";
import type { StepShape } from "./step-shape";

export interface LayerNormOptions extends NormOptions {
  /** Normalises only the last rows of the step, as many as are dispatched, each to its own row of y. By default all rows. */
  readonly lastRows?: boolean;
}

/** `x`, `y`: f32 [rows, paddedColumns(columns)]; `weight`, `bias`: f32 [columns]. */
export const layerNorm = defineKernel<"state" | "x" | "weight" | "bias" | "y", LayerNormOptions, StepShape>({
  name: "layer-norm",
  wgsl,
  bindings: ["state", "x", "weight", "bias", "y"],
  variant(options) {
    const { defines, ...rest } = normVariant(options);
    return { defines: { ...defines, LAST_ROWS: options.lastRows ?? false }, ...rest };
  },
  workgroups: (_, { rows }) => [rows, 1, 1],
});

export const layerNormVariants: readonly LayerNormOptions[] = [false, true].flatMap((subgroups) =>
  [false, true].map((lastRows) => ({ columns: 100, epsilon: 1e-5, subgroups, lastRows })),
);
