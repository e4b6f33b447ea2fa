// Records the residuals that enter a layer, in pages beside its K/V. An upgrade recomputes from them.
import wgsl from "../../shaders/residual-store.wgsl?raw";
import { assert } from "../assert";
import { defineKernel, type KernelVariant } from "../gpu/kernel";
import { paddedColumns } from "../weight-format";
import type { StepShape } from "./step-shape";

export interface ResidualOptions {
  /** The hidden size; a multiple of 4. */
  readonly columns: number;
  /** Positions in a page. */
  readonly pageSize: number;
  /** Words between the page tables of two slots; 0, the default, if there is one slot. */
  readonly tableStride?: number;
}

/**
 * `x`: f32 [rows, paddedColumns(columns)]. `table`: u32 [slots, tableStride], the page of each run of pageSize positions. `residuals`: f32
 * [page][pageSize][paddedColumns(columns)]. Padding is neither read nor written. Stopped rows are skipped.
 */
export const residualStore = defineKernel<"state" | "x" | "table" | "residuals", ResidualOptions, StepShape>({
  name: "residual-store",
  wgsl,
  bindings: ["state", "x", "table", "residuals"],
  variant: residualVariant,
  workgroups: ({ columns }, { rows }) => [Math.ceil(columns / 256), rows, 1],
});

export const residualStoreVariants: readonly ResidualOptions[] = [{ columns: 100, pageSize: 16 }];

/** The kernel variant, the same for storing and loading. */
export function residualVariant({ columns, pageSize, tableStride = 0 }: ResidualOptions): KernelVariant {
  assert(columns % 4 === 0, `residuals of ${columns} columns, expected a multiple of 4`);
  return {
    defines: {},
    constants: { COLUMN_VEC4S: columns / 4, ROW_VEC4S: paddedColumns(columns) / 4, PAGE_SIZE: pageSize, TABLE_STRIDE: tableStride },
  };
}
