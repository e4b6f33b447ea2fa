// The model as a bar of cells, in the order in which a token passes through it: vocabulary rows, then the layers.
import type { StageInfo, StagePlan, Unit } from "../src/index";
import type { StageProgress } from "./stage-progress";

export interface StageCell {
  /** A layer's index; null for rows of the vocabulary. */
  readonly layer: number | null;
  /** Index of the stage with which the cell arrives. */
  readonly stage: number;
  /** Width in layers, about proportional to its bytes. */
  readonly width: number;
}

const UNKNOWN_ROWS_WIDTH = 3;
const LEAST_ROWS_WIDTH = 2; // narrower, the cell would look like a layer

/** Rows of several stages are adjacent, in stage order, as parts of one wide cell. */
export function stageCells(plan: StagePlan, stages: readonly StageInfo[]): StageCell[] {
  const allRowsWidth = rowsWidth(plan, stages);
  const cells = plan.stages.flatMap(({ units }, stage) =>
    units.map((unit): StageCell => {
      if (unit.kind === "layer") return { layer: unit.layer, stage, width: 1 };
      return { layer: null, stage, width: (allRowsWidth * rowCount(unit)) / plan.vocabSize };
    }),
  );
  return cells.sort((a, b) => (a.layer ?? -1) - (b.layer ?? -1) || a.stage - b.stage);
}

/** How full each cell is, 0 to 1. The bytes of a stage fill its cells in request order, rows first. */
export function cellFills(cells: readonly StageCell[], progress: Pick<StageProgress, "stages" | "arrivedOf">): number[] {
  const left = progress.stages.map(({ bytes }, index) => {
    const width = cells.reduce((sum, cell) => sum + (cell.stage === index ? cell.width : 0), 0);
    return bytes === 0 ? width : (width * progress.arrivedOf(index)) / bytes;
  });
  return cells.map(({ stage, width }) => {
    const filled = Math.min(width, left[stage] ?? 0);
    left[stage] = (left[stage] ?? 0) - filled;
    return filled / width;
  });
}

/** Width of all rows in layers: a least-squares fit to the contents and sizes of the stages, if they determine it; at most half the bar. */
function rowsWidth({ layerCount, vocabSize, stages: planned }: StagePlan, stages: readonly StageInfo[]): number {
  let [layersLayers, layersRows, rowsRows, layersBytes, rowsBytes] = [0, 0, 0, 0, 0];
  for (const [index, { units }] of planned.entries()) {
    const bytes = stages[index]?.bytes ?? 0;
    const layers = units.filter(({ kind }) => kind === "layer").length / layerCount;
    const rows = units.reduce((sum, unit) => sum + rowCount(unit), 0) / vocabSize;
    layersLayers += layers * layers;
    layersRows += layers * rows;
    rowsRows += rows * rows;
    layersBytes += layers * bytes;
    rowsBytes += rows * bytes;
  }
  const determinant = layersLayers * rowsRows - layersRows * layersRows;
  const width = (layerCount * (layersLayers * rowsBytes - layersRows * layersBytes)) / (rowsRows * layersBytes - layersRows * rowsBytes);
  const isTold = determinant > 1e-6 && Number.isFinite(width);
  return Math.min(layerCount, Math.max(LEAST_ROWS_WIDTH, isTold ? width : UNKNOWN_ROWS_WIDTH));
}

function rowCount(unit: Unit): number {
  return unit.kind === "rows" ? unit.rows.reduce((sum, { start, end }) => sum + end - start, 0) : 0;
}
