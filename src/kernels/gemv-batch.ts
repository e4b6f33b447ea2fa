// How many rows of a decode step one workgroup of matmul-vector computes.
import { fitsBatch, type GemvTuning, type MatmulVectorOptions } from "./matmul-vector";

/** A batch, and the cut that goes with it. */
export interface GemvBatch {
  readonly batch: number;
  readonly tuning: GemvTuning;
}

/** What the choice depends on: a kernel for one row, and the cut that it has. */
export type BatchableProduct = MatmulVectorOptions & Required<Pick<MatmulVectorOptions, "tuning">>;

export type GemvBatchChoice = (product: BatchableProduct, stepRows: number) => GemvBatch | null;

const BATCHES = [8, 4, 2] as const;
// Fewer leave a large GPU idle, and a row each is faster then: two for each of an H200's 132 processors.
const MIN_WORKGROUPS = 256;

/**
 * The largest batch that the step's rows need, that fits, and that leaves enough workgroups; null where each row is best computed by itself. Lanes
 * and threads stay as they are, for they order the sums; a thread has at least two rows, so that x is read once for both.
 */
export function gemvBatch(product: BatchableProduct, stepRows: number): GemvBatch | null {
  const { lanes, rowsPerThread, workgroupSize } = product.tuning;
  const tuning = { ...product.tuning, rowsPerThread: Math.max(2, rowsPerThread) };
  const rowGroups = Math.ceil(product.rows / ((workgroupSize / lanes) * tuning.rowsPerThread));
  const batch = BATCHES.find(
    (each) =>
      each < 2 * stepRows && rowGroups * Math.ceil(stepRows / each) >= MIN_WORKGROUPS && fitsBatch({ ...product, tuning, batch: each }),
  );
  return batch && stepRows > 1 ? { batch, tuning } : null;
}
