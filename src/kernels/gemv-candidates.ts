// The GEMV parameters worth benchmarking for a decode product: the default of `gemvTuning` and its neighbours.
import { rowCodeBytes } from "../weight-format";
import { type GemvTuning, gemvTuning, type MatmulVectorOptions } from "./matmul-vector";

/** Everything that affects the speed of a decode step's matrix-vector product, besides its GEMV parameters. */
export interface GemvProduct extends Pick<MatmulVectorOptions, "format" | "rows" | "columns" | "bias" | "epilogue" | "subgroups"> {
  /** The kernel also computes RMSNorm of x. */
  readonly norm: boolean;
}

/** Raise it with every change of matmul-vector that may change which parameters are fastest: stored tunings of other versions are ignored. */
export const GEMV_VERSION = 1;

const MAX_NEIGHBOURS = 5;

/**
 * The default comes first. Every candidate is correct for any number of rows, and fits the thread and workgroup memory limits of every WebGPU
 * device. A software adapter has no candidates: its default is faster than all others by far.
 */
export function gemvCandidates(product: GemvProduct, features: { readonly software: boolean }): readonly GemvTuning[] {
  if (features.software) return [];
  const { format, rows, columns } = product;
  const byDefault = gemvTuning(format, rows, columns, features);
  const { lanes, rowsPerThread, workgroupSize } = byDefault;
  const neighbours: readonly Partial<GemvTuning>[] = [
    { lanes: lanes / 2 },
    { rowsPerThread: rowsPerThread * 2 },
    { workgroupSize: workgroupSize / 2 },
    { lanes: lanes / 2, rowsPerThread: rowsPerThread * 2 },
    { lanes: lanes * 2 },
    { rowsPerThread: rowsPerThread / 2 },
    { workgroupSize: workgroupSize * 2 },
  ];
  const fitting = neighbours.map((change) => ({ ...byDefault, ...change })).filter((tuning) => isFit(tuning, product));
  return [byDefault, ...fitting.slice(0, MAX_NEIGHBOURS)];
}

function isFit({ lanes, rowsPerThread, workgroupSize }: GemvTuning, { format, columns, epilogue }: GemvProduct): boolean {
  const units = rowCodeBytes(format, columns) / 16;
  const workgroupRows = (workgroupSize / lanes) * rowsPerThread;
  return (
    // More lanes than units in a chunk of x would idle. The smallest subgroups have 4 threads: fewer lanes gain nothing.
    lanes >= 4 &&
    lanes <= Math.min(64, workgroupSize) &&
    lanes < 2 * units &&
    workgroupSize >= 64 &&
    workgroupSize <= 256 &&
    // Each thread writes at most one output.
    rowsPerThread >= 1 &&
    rowsPerThread <= 4 &&
    workgroupRows <= workgroupSize &&
    (epilogue !== "silu-gated" || workgroupRows % 2 === 0)
  );
}

/** Identifies a product by everything that affects which parameters are fastest. */
export function productKey({ format, rows, columns, epilogue, norm, bias, subgroups }: GemvProduct): string {
  const fused = [norm && "norm", bias && "bias", subgroups && "subgroups"].filter(Boolean);
  return [format, `${rows}x${columns}`, epilogue, ...fused].join(" ");
}

/** Identifies a candidate among those of a product. */
export function tuningKey({ lanes, rowsPerThread, workgroupSize, staged }: GemvTuning): string {
  return `${lanes} lanes, ${rowsPerThread} rows, ${workgroupSize} threads${staged ? ", staged" : ""}`;
}
