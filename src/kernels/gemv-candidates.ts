// Which parameters of the GEMV kernel are worth benchmarking on a device: the default of `gemvTuning` and its neighbours.
import { rowCodeBytes } from "../weight-format";
import { type GemvTuning, gemvTuning, type MatmulVectorOptions } from "./matmul-vector";

/** A product of the decode step, as far as the speed of a cut depends on it. */
export interface GemvProduct extends Pick<MatmulVectorOptions, "format" | "rows" | "columns" | "bias" | "epilogue" | "subgroups"> {
  /** RMSNorm of x is part of it. */
  readonly norm: boolean;
}

/** Increase it with each change of matmul-vector that may make other parameters the fastest: it invalidates stored measurements. */
export const GEMV_VERSION = 1;

const MAX_NEAR = 5;

/**
 * The cuts to measure, the default first. All of them compute any number of rows, and fit the threads and the workgroup memory that every WebGPU
 * device has. None on an adapter in software, whose default no other comes near.
 */
export function gemvCandidates(product: GemvProduct, features: { readonly software: boolean }): readonly GemvTuning[] {
  if (features.software) return [];
  const { format, rows, columns } = product;
  const chosen = gemvTuning(format, rows, columns, features);
  const { lanes, rowsPerThread, workgroupSize } = chosen;
  const near: readonly Partial<GemvTuning>[] = [
    { lanes: lanes / 2 },
    { rowsPerThread: rowsPerThread * 2 },
    { workgroupSize: workgroupSize / 2 },
    { lanes: lanes / 2, rowsPerThread: rowsPerThread * 2 },
    { lanes: lanes * 2 },
    { rowsPerThread: rowsPerThread / 2 },
    { workgroupSize: workgroupSize * 2 },
  ];
  const fitting = near.map((change) => ({ ...chosen, ...change })).filter((tuning) => isFit(tuning, product));
  return [chosen, ...fitting.slice(0, MAX_NEAR)];
}

function isFit({ lanes, rowsPerThread, workgroupSize }: GemvTuning, { format, columns, epilogue }: GemvProduct): boolean {
  const units = rowCodeBytes(format, columns) / 16;
  const workgroupRows = (workgroupSize / lanes) * rowsPerThread;
  return (
    // More lanes than a chunk of x has units would take no whole turn; fewer than the smallest subgroup has threads gain nothing.
    lanes >= 4 &&
    lanes <= Math.min(64, workgroupSize) &&
    lanes < 2 * units &&
    workgroupSize >= 64 &&
    workgroupSize <= 256 &&
    // A thread finishes one output at most.
    rowsPerThread >= 1 &&
    rowsPerThread <= 4 &&
    workgroupRows <= workgroupSize &&
    (epilogue !== "silu-gated" || workgroupRows % 2 === 0)
  );
}

/** Names a product among all that an adapter may be asked for. */
export function productKey({ format, rows, columns, epilogue, norm, bias, subgroups }: GemvProduct): string {
  const fused = [norm && "norm", bias && "bias", subgroups && "subgroups"].filter(Boolean);
  return [format, `${rows}x${columns}`, epilogue, ...fused].join(" ");
}

/** Names a cut among a product's candidates. */
export function tuningKey({ lanes, rowsPerThread, workgroupSize, staged }: GemvTuning): string {
  return `${lanes} lanes, ${rowsPerThread} rows, ${workgroupSize} threads${staged ? ", staged" : ""}`;
}
