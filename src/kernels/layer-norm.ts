// Layer normalisation of each row.
import wgsl from "../../shaders/layer-norm.wgsl?raw";
import { defineKernel } from "../gpu/kernel";
import { type NormOptions, normVariant } from "./rms-norm";
import type { StepShape } from "./step-shape";

export interface LayerNormOptions extends NormOptions {
  /** Of the step's rows only as many of the last as are dispatched, each in its place in y. Every row unless given. */
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
