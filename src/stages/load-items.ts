// Splits a unit into what is loaded: vectors and pieces of matrices. Groups them into reads.
import {
  type MatrixPiece,
  type MatrixRecipe,
  type MatrixRole,
  recipeFileBytes,
  splitRowSet,
  type VectorRecipe,
  type WeightRecipe,
} from "../weights/model-weights";
import type { RowSet } from "../weights/row-set";

export type LoadItem =
  | ({ readonly kind: "vector" } & VectorRecipe)
  /** Rows of a matrix, from `rowOffset` on. */
  | ({ readonly kind: "matrix"; readonly rowOffset: number } & MatrixRecipe);

export function vectorItems({ vectors }: WeightRecipe): LoadItem[] {
  return vectors.map((vector) => ({ kind: "vector", ...vector }));
}

export function matrixItems(role: MatrixRole, pieces: readonly MatrixPiece[]): LoadItem[] {
  return pieces.map(({ rowOffset, recipe }) => ({ kind: "matrix", rowOffset, ...recipe, role }));
}

/** `rows` of all matrices outside the layers. */
export function rowItems({ matrices }: WeightRecipe, rows: RowSet, maxFileBytes: number): LoadItem[] {
  return matrices.flatMap((matrix) => matrixItems(matrix.role, splitRowSet(matrix, rows, maxFileBytes)));
}

/**
 * Items in file order, in batches of at most `maxFileBytes`, or of one item. A batch whose items are adjacent is one request. A small layer
 * is one batch; read tensor by tensor, it would cost a round trip for each.
 */
export function inBatches(items: readonly LoadItem[], maxFileBytes: number): LoadItem[][] {
  const ordered = [...items].sort((a, b) => firstByte(a) - firstByte(b));
  const batches: LoadItem[][] = [];
  let batchBytes = 0;
  for (const item of ordered) {
    const bytes = recipeFileBytes(item);
    const batch = batches.at(-1);
    if (batch && batchBytes + bytes <= maxFileBytes) {
      batch.push(item);
      batchBytes += bytes;
    } else {
      batches.push([item]);
      batchBytes = bytes;
    }
  }
  return batches;
}

function firstByte({ parts }: LoadItem): number {
  return Math.min(...parts.map(({ tensor }) => tensor.range.start));
}
