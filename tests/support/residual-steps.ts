// Steps whose residuals go into pages or come out of them, for the kernels of both ways.
import { paddedColumns } from "../../src/weight-format";
import { randomTable } from "../reference/paged-cache";
import type { Random } from "./random";
import { stepState } from "./step-state";

/** A step and the pages of its residuals. */
export interface ResidualStep {
  readonly columns: number;
  /** Floats between rows, in the step's tensor and in pages. */
  readonly stride: number;
  readonly pageSize: number;
  readonly table: Uint32Array<ArrayBuffer>;
  readonly position: number;
  readonly rows: number;
}

export const RESIDUAL_SIZES = { columns: [4, 100, 576, 896], pageSize: [16, 64] } as const;

/** A row alone, at a page's end and at its beginning, and rows in several pages. */
export function residualSteps(random: Random, columns: number, pageSize: number): ResidualStep[] {
  const places = [
    [0, 1],
    [pageSize - 1, 1],
    [pageSize, 1],
    [0, 2 * pageSize + 1],
    [3 * pageSize - 4, 7],
  ] as const;
  return places.map(([position, rows]) => residualStep(random, columns, pageSize, position, rows));
}

export function residualStep(random: Random, columns: number, pageSize: number, position: number, rows: number): ResidualStep {
  return { columns, stride: paddedColumns(columns), pageSize, table: randomTable(random, position + rows, pageSize), position, rows };
}

/** Rows with what arithmetic may lose in each: a negative zero, and numbers below the normal ones. */
export function delicateRows(random: Random, rows: number, stride: number): Float32Array<ArrayBuffer> {
  const values = random.withOutliers([rows, stride]);
  for (let row = 0; row < values.length; row += stride) values.set([-0, 1e-40, -1e-45], row);
  return values;
}

/** The step's state as the kernels bind it. */
export function stateOf({ position, rows }: ResidualStep, stopped = 0): Uint32Array<ArrayBuffer> {
  return stepState({ position, rows, stopped });
}

/** One row more than the step has, as a dispatch may cover. */
export function shapeOf({ position, rows }: ResidualStep) {
  return { rows: rows + 1, positions: position + rows };
}
