// Matrix × vector: the products of a decode step and of a chunk of a few rows. The kernel includes RMSNorm before and an epilogue after the product.
import wgsl from "../../shaders/matmul-vector.wgsl?raw";
import { assert } from "../assert";
import { defineKernel, type Workgroups } from "../gpu/kernel";
import { paddedColumns, type WeightFormat } from "../weight-format";
import { EPILOGUES, type Epilogue, epilogueDefine } from "./epilogue";
import type { StepShape } from "./step-shape";
import { WEIGHT_FORMATS, weightDefines } from "./weight-defines";

export interface MatmulVectorOptions {
  readonly format: WeightFormat;
  /** Rows of the matrix: outputs before the epilogue. */
  readonly rows: number;
  /** Columns of the matrix before padding. */
  readonly columns: number;
  /** If given, x is normalised first: y = W·(norm_weight ∘ x) / √(mean(x²) + ε). The columns must then be a multiple of 4. */
  readonly normEpsilon?: number;
  readonly bias: boolean;
  readonly epilogue: Epilogue;
  /** Index in y of the first output. */
  readonly yOffset: number;
  /** Floats between rows of y. */
  readonly yStride: number;
  /** Computes only the last rows of the step, as many as are dispatched, into y's first rows. By default all rows. */
  readonly lastRows?: boolean;
  /** Rows of the step that a workgroup computes, unpacking each weight once for all of them: 1 unless given, or what `fitsBatch` says of it. */
  readonly batch?: number;
  readonly subgroups: boolean;
  /** By default `gemvTuning` for a GPU. */
  readonly tuning?: GemvTuning;
}

/** GEMV parameters: how the work is divided among threads. The numbers are powers of two. */
export interface GemvTuning {
  /** Threads that compute a row together. */
  readonly lanes: number;
  /** Rows that a thread computes at once, reusing x. Must be even for `silu-gated` if lanes is 1. */
  readonly rowsPerThread: number;
  readonly workgroupSize: number;
  /** x goes through workgroup memory. */
  readonly staged: boolean;
}

type Binding = "state" | "x" | "codes" | "scales" | "norm_weight" | "bias" | "y";

/**
 * `x`: f32 [rows of the step, paddedColumns(columns)]; `norm_weight`: f32 [columns]; `bias`: f32 [rows]; `y`: f32 [rows, yStride], outputs from yOffset
 * on. Rows are those of the step, or with lastRows only its last ones, which the head needs. Stopped rows of y are not written.
 */
export const matmulVector = defineKernel<Binding, MatmulVectorOptions, StepShape>({
  name: "matmul-vector",
  wgsl,
  bindings: ["state", "x", "codes", "scales", "norm_weight", "bias", "y"],
  variant(options) {
    const { format, rows, columns, normEpsilon, epilogue, yStride, lastRows = false } = options;
    assert(normEpsilon === undefined || columns % 4 === 0, `a norm over ${columns} columns, expected a multiple of 4`);
    assert(epilogue !== "silu-gated" || rows % 2 === 0, `${rows} interleaved rows of gate and up`);
    const { lanes, rowsPerThread, workgroupSize, staged } = tuningOf(options);
    const { batch = 1 } = options;
    assert(batch === 1 || !lastRows, "a batch of the last rows: only the shader knows which they are");
    assert(epilogue !== "silu-gated" || ((workgroupSize / lanes) * rowsPerThread) % 2 === 0, "a workgroup with half a pair of rows");
    return {
      defines: {
        ...weightDefines(format, columns),
        COLUMNS: columns,
        CHUNK_VEC4S: chunkColumns(options) / 4,
        BATCH: batch,
        NORM: normEpsilon !== undefined,
        BIAS: options.bias,
        EPILOGUE: epilogueDefine(epilogue),
        LAST_ROWS: lastRows,
        SUBGROUPS: options.subgroups,
        STAGED: staged,
        LANES: lanes,
        ROWS_PER_THREAD: rowsPerThread,
        WORKGROUP_SIZE: workgroupSize,
      },
      constants: {
        ...{ ROWS: rows, Y_OFFSET: options.yOffset, Y_STRIDE: yStride },
        ...(normEpsilon === undefined ? {} : { NORM_EPSILON: normEpsilon }),
      },
    };
  },
  workgroups: (options, { rows }) => matmulVectorGrid(options, rows),
});

const MAX_WORKGROUPS = 65_535; // a dimension, in WebGPU's default limits

function matmulVectorGrid(options: MatmulVectorOptions, stepRows: number): Workgroups {
  const { lanes, rowsPerThread, workgroupSize } = tuningOf(options);
  const count = Math.ceil(options.rows / ((workgroupSize / lanes) * rowsPerThread));
  const z = Math.ceil(count / MAX_WORKGROUPS);
  return [Math.ceil(stepRows / (options.batch ?? 1)), Math.ceil(count / z), z];
}

function tuningOf({ format, rows, columns, tuning }: MatmulVectorOptions): GemvTuning {
  return tuning ?? gemvTuning(format, rows, columns, { software: false });
}

const UNIT_COLUMNS: Readonly<Record<WeightFormat, number>> = { f32: 4, f16: 8, q8: 16, q4: 32, q4m: 32 }; // in 16 bytes

/**
 * The default GEMV parameters for a matrix on an adapter, measured on an H100. A matrix of few rows gets enough threads to hide latency; one of many rows
 * gets enough reuse of x.
 */
export function gemvTuning(format: WeightFormat, rows: number, columns: number, { software }: { readonly software: boolean }): GemvTuning {
  // No barriers: on SwiftShader one thread a row took 13 ms, the staged form 380 ms (3072 × 576, f32).
  if (software) return { lanes: 1, rowsPerThread: 4, workgroupSize: 64, staged: false };
  const units = paddedColumns(columns) / UNIT_COLUMNS[format];
  // In these formats a unit's x is 16 or 32 bytes: neighbouring lanes read neighbouring addresses without staging.
  const staged = format !== "f32" && format !== "f16";
  // A row needs at least as many lanes as a thread has rows, because each thread finishes one output.
  const lanes = (most: number) => Math.min(most, Math.max(4, 2 ** Math.ceil(Math.log2(units))));
  if (rows >= 8192) return { lanes: lanes(16), rowsPerThread: 4, workgroupSize: 128, staged };
  if (rows >= 2048) return { lanes: lanes(32), rowsPerThread: 2, workgroupSize: 128, staged };
  return { lanes: lanes(units > 64 ? 64 : 32), rowsPerThread: 1, workgroupSize: units > 64 ? 256 : 128, staged };
}

// x is staged whole, or at most this many floats (8 KiB) at a time: whole turns of the lanes for a row.
const CHUNK_FLOATS = 2048;
// In a batch a chunk has a unit for each thread of a team, or of a common subgroup: others wait for the next chunk together.
const COMMON_SUBGROUP = 32;

/** Columns of x that are staged at a time. */
function chunkColumns(options: MatmulVectorOptions): number {
  const { format, columns, batch = 1 } = options;
  if (batch === 1) return Math.min(paddedColumns(columns), CHUNK_FLOATS);
  const least = Math.min(tuningOf(options).lanes, COMMON_SUBGROUP) * UNIT_COLUMNS[format];
  return Math.min(paddedColumns(columns), Math.max(least, CHUNK_FLOATS / batch));
}

const MAX_WORKGROUP_BYTES = 16_384; // of every WebGPU device

/** Whether what a workgroup of the batch keeps fits: x of its rows, and what its lanes add up. */
export function fitsBatch(options: MatmulVectorOptions): boolean {
  const { format, normEpsilon, subgroups, batch = 1 } = options;
  const { lanes, rowsPerThread, workgroupSize, staged } = tuningOf(options);
  const norm = normEpsilon !== undefined;
  const unitVec4s = UNIT_COLUMNS[format] / 4;
  const chunkUnits = chunkColumns(options) / UNIT_COLUMNS[format];
  const stagedVec4s = Math.max(batch * unitVec4s * (chunkUnits | 1), norm ? Math.ceil(batch / 4) * workgroupSize : 0);
  const sums = batch * (rowsPerThread + (norm ? 1 : 0));
  const partials = lanes === 1 ? 0 : (workgroupSize / lanes) * sums * (subgroups ? lanes / Math.min(lanes, 4) : lanes);
  return (staged ? stagedVec4s * 16 : 0) + partials * 4 <= MAX_WORKGROUP_BYTES;
}

const CUTS: readonly GemvTuning[] = [
  { lanes: 1, rowsPerThread: 4, workgroupSize: 64, staged: false },
  { lanes: 16, rowsPerThread: 4, workgroupSize: 128, staged: false },
  { lanes: 64, rowsPerThread: 1, workgroupSize: 256, staged: true },
];

export const matmulVectorVariants: readonly MatmulVectorOptions[] = WEIGHT_FORMATS.flatMap((format) =>
  [false, true].flatMap((subgroups) =>
    EPILOGUES.flatMap((epilogue) =>
      CUTS.flatMap((tuning) => [
        { format, rows: 64, columns: 100, bias: false, epilogue, yOffset: 0, yStride: 64, lastRows: true, subgroups, tuning },
        { format, rows: 64, columns: 100, bias: true, normEpsilon: 1e-5, epilogue, yOffset: 0, yStride: 64, subgroups, tuning },
        { format, rows: 64, columns: 100, bias: true, normEpsilon: 1e-5, epilogue, yOffset: 0, yStride: 64, batch: 2, subgroups, tuning },
        { format, rows: 64, columns: 100, bias: false, epilogue, yOffset: 0, yStride: 64, batch: 4, subgroups, tuning },
      ]),
    ),
  ),
);
