// Rounds activations to eight bits, once for all products of the same x.
import wgsl from "../../shaders/quantise-rows.wgsl?raw";
import { defineKernel } from "../gpu/kernel";
import { GROUP, paddedColumns } from "../weight-format";
import type { StepShape } from "./step-shape";

export interface QuantiseRowsOptions {
  /** Columns of x before padding. */
  readonly columns: number;
}

const WORKGROUP_SIZE = 64;

/**
 * `x`: f32 [rows of the step, K], K = paddedColumns(columns). `x_codes`: signed bytes [rows of the step, K]. `x_scales`: f32 [rows of the step, K / 32,
 * 2]: for each group the scale and the sum of scale · code.
 */
export const quantiseRows = defineKernel<"state" | "x" | "x_codes" | "x_scales", QuantiseRowsOptions, StepShape>({
  name: "quantise-rows",
  wgsl,
  bindings: ["state", "x", "x_codes", "x_scales"],
  variant: ({ columns }) => ({ defines: { GROUPS: paddedColumns(columns) / GROUP, WORKGROUP_SIZE } }),
  workgroups: ({ columns }, { rows }) => [Math.ceil(paddedColumns(columns) / 4 / WORKGROUP_SIZE), rows, 1],
});

export const quantiseRowsVariants: readonly QuantiseRowsOptions[] = [{ columns: 100 }];
