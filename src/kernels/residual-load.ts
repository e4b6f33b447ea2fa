// Loads the residuals that residual-store recorded: the rows that enter a layer.
import wgsl from "../../shaders/residual-load.wgsl?raw";
import { defineKernel } from "../gpu/kernel";
import { type ResidualOptions, residualVariant } from "./residual-store";
import type { StepShape } from "./step-shape";

/** The tensors are those of residual-store. Skips stopped rows. */
export const residualLoad = defineKernel<"state" | "table" | "residuals" | "x", ResidualOptions, StepShape>({
  name: "residual-load",
  wgsl,
  bindings: ["state", "table", "residuals", "x"],
  variant: residualVariant,
  workgroups: ({ columns }, { rows }) => [Math.ceil(columns / 256), rows, 1],
});

export const residualLoadVariants: readonly ResidualOptions[] = [{ columns: 100, pageSize: 16 }];
