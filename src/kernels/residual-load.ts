// Brings back the residuals that residual-store kept, as the rows that a layer starts from.
import wgsl from "../../shaders/residual-load.wgsl?raw";
import { defineKernel } from "../gpu/kernel";
import { type ResidualOptions, residualVariant } from "./residual-store";
import type { StepShape } from "./step-shape";

/** Tensors as residual-store has them. Does nothing for stopped rows. */
export const residualLoad = defineKernel<"state" | "table" | "residuals" | "x", ResidualOptions, StepShape>({
  name: "residual-load",
  wgsl,
  bindings: ["state", "table", "residuals", "x"],
  variant: residualVariant,
  workgroups: ({ columns }, { rows }) => [Math.ceil(columns / 256), rows, 1],
});

export const residualLoadVariants: readonly ResidualOptions[] = [{ columns: 100, pageSize: 16 }];
