// A matrix product of the model, y = epilogue(W·x), as the kernels that compute it: one dispatch for each part that the
// device can bind, a vector kernel for decode and a tile kernel for prefill.
import { assert } from "../assert";
import type { GpuTensor } from "../gpu/buffer";
import type { BoundKernel, Kernel } from "../gpu/kernel";
import type { Epilogue } from "../kernels/epilogue";
import { matmulTile, tileKind } from "../kernels/matmul-tile";
import { gemvTuning, matmulVector } from "../kernels/matmul-vector";
import type { StepShape } from "../kernels/step-shape";
import { type GpuMatrix, type MatrixShape, splitRows } from "./gpu-matrix";
import type { ProgramContext } from "./program-context";

export interface LinearUse {
  readonly epilogue: Epilogue;
  readonly bias: boolean;
  /** RMSNorm of x inside the vector kernel; prefill norms its rows once, apart. */
  readonly normEpsilon?: number;
  /** Floats between rows of y in prefill. */
  readonly yStride: number;
}

export interface LinearTensors {
  readonly x: GpuTensor;
  readonly y: GpuTensor;
  readonly bias?: GpuTensor;
  readonly normWeight?: GpuTensor;
}

type VectorKernel = Kernel<(typeof matmulVector.bindings)[number], StepShape>;
type TileKernel = Kernel<(typeof matmulTile.bindings)[number], StepShape>;

export class Linear {
  readonly #context: ProgramContext;
  readonly #vector: readonly VectorKernel[];
  readonly #tile: readonly TileKernel[];

  private constructor(context: ProgramContext, vector: readonly VectorKernel[], tile: readonly TileKernel[]) {
    this.#context = context;
    this.#vector = vector;
    this.#tile = tile;
  }

  /** Compiles both kernels of every part. */
  static async compile(context: ProgramContext, shape: MatrixShape, use: LinearUse): Promise<Linear> {
    const { gpu, kernels, subgroups, math } = context;
    const { epilogue, bias, yStride } = use;
    const parts = splitRows(shape, gpu.maxBindingBytes);
    assert(parts.length === 1 || !bias, "a matrix with a bias is too large to bind in one part");
    const outputsPerRow = epilogue === "silu-gated" ? 0.5 : 1;
    const [vector, tile] = await Promise.all([
      Promise.all(
        parts.map(({ firstRow, rowCount }) =>
          kernels.compile(matmulVector, {
            format: shape.format,
            rows: rowCount,
            columns: shape.columns,
            bias,
            epilogue,
            yOffset: firstRow * outputsPerRow,
            subgroups,
            tuning: gemvTuning(shape.format, rowCount, shape.columns, gpu.features),
            ...(use.normEpsilon === undefined ? {} : { normEpsilon: use.normEpsilon }),
          }),
        ),
      ),
      Promise.all(
        parts.map(({ firstRow, rowCount }) =>
          kernels.compile(matmulTile, {
            format: shape.format,
            rows: rowCount,
            columns: shape.columns,
            bias,
            epilogue,
            yStride,
            yOffset: firstRow * outputsPerRow,
            // A weight stored as f32 is kept whole; the other formats lose nothing, or a last bit, in f16 tiles.
            math: shape.format === "f32" ? "f32" : math,
            tile: tileKind(rowCount, gpu.features),
          }),
        ),
      ),
    ]);
    return new Linear(context, vector, tile);
  }

  bindVector(matrix: GpuMatrix, tensors: LinearTensors): BoundKernel<StepShape>[] {
    return this.#vector.map((kernel, part) => kernel.bind(this.#tensors(matrix, part, tensors)));
  }

  bindTile(matrix: GpuMatrix, tensors: LinearTensors): BoundKernel<StepShape>[] {
    return this.#tile.map((kernel, part) => kernel.bind(this.#tensors(matrix, part, tensors)));
  }

  #tensors(matrix: GpuMatrix, index: number, { x, y, bias, normWeight }: LinearTensors) {
    const part = matrix.parts[index];
    assert(part, `part ${index} of a matrix of ${matrix.parts.length}`);
    return {
      state: this.#context.scratch.tensor("state"),
      x,
      codes: part.codes,
      scales: part.scales,
      y,
      ...(bias ? { bias } : {}),
      ...(normWeight ? { norm_weight: normWeight } : {}),
    };
  }
}
