// A matrix product of the model, y = epilogue(W·x), as the kernels that compute it. Each part that the device can bind is one dispatch. Decode and chunks
// of a few rows use a vector kernel, prefill a tile kernel. If the tile kernel takes x in bytes, another kernel makes them first.
import { assert } from "../assert";
import type { GpuTensor } from "../gpu/buffer";
import type { BoundKernel, Kernel } from "../gpu/kernel";
import type { Epilogue } from "../kernels/epilogue";
import type { BatchableProduct, GemvBatchChoice } from "../kernels/gemv-batch";
import type { GemvProduct } from "../kernels/gemv-candidates";
import { type Dp4aFormat, isDp4aFormat, matmulDp4a } from "../kernels/matmul-dp4a";
import { matmulSubgroupMatrix } from "../kernels/matmul-subgroup-matrix";
import { matmulTile, tileKind } from "../kernels/matmul-tile";
import { matmulVector } from "../kernels/matmul-vector";
import { quantiseRows } from "../kernels/quantise-rows";
import type { StepShape } from "../kernels/step-shape";
import type { WeightFormat } from "../weight-format";
import type { RowSet } from "../weights/row-set";
import { type GpuMatrix, type MatrixShape, type RowRange, splitRows } from "./gpu-matrix";
import type { ProgramContext } from "./program-context";
import { VectorStep } from "./vector-step";

export interface LinearUse {
  readonly epilogue: Epilogue;
  readonly bias: boolean;
  /** The vector kernel includes RMSNorm of x. Prefill normalises its rows once in a kernel of its own. */
  readonly normEpsilon?: number;
  /** Floats between rows of y. */
  readonly yStride: number;
}

export interface LinearTensors {
  readonly state: GpuTensor;
  readonly x: GpuTensor;
  readonly y: GpuTensor;
  readonly bias?: GpuTensor;
  readonly normWeight?: GpuTensor;
}

type VectorKernel = Kernel<(typeof matmulVector.bindings)[number], StepShape>;
type TileKernel = Kernel<(typeof matmulTile.bindings | typeof matmulDp4a.bindings)[number], StepShape>;

/** The kernel that makes bytes of x, and the buffers that it leaves them in for the tile kernels. */
interface ByteInput {
  readonly quantise: Kernel<(typeof quantiseRows.bindings)[number], StepShape>;
  readonly tensors: Readonly<Record<"x_codes" | "x_scales", GpuTensor>>;
}

/** Rows that one dispatch computes: all of one part, from a row that a binding may begin at. */
interface Piece extends RowRange {
  readonly part: number;
  /** The index in the part. */
  readonly rowOffset: number;
}

interface PieceKernel<K> {
  readonly piece: Piece;
  readonly kernel: K;
}

interface PieceVector extends PieceKernel<VectorKernel> {
  /** The kernel for so many rows of a step that are all computed; null if that is `kernel`, a row at a time. */
  readonly compileBatch: (choice: GemvBatchChoice, stepRows: number) => Promise<VectorKernel | null>;
}

export class Linear {
  readonly #vector: readonly PieceVector[];
  readonly #tile: readonly PieceKernel<TileKernel>[];
  readonly #bytes: ByteInput | null;

  private constructor(vector: readonly PieceVector[], tile: readonly PieceKernel<TileKernel>[], bytes: ByteInput | null) {
    this.#vector = vector;
    this.#tile = tile;
    this.#bytes = bytes;
  }

  /** Compiles both kernels of every part. Each computes all rows of a step. */
  static async compile(context: ProgramContext, shape: MatrixShape, use: LinearUse): Promise<Linear> {
    const pieces = piecesOf(shape, context.gpu.maxBindingBytes, [{ start: 0, end: shape.rows }]);
    assert(pieces.length === 1 || !use.bias, "a matrix with a bias is too large to bind in one part");
    const [vector, tile, bytes] = await Promise.all([
      compileVector(context, shape, use, pieces, { lastRows: false }),
      compileTile(context, shape, use, pieces),
      compileByteInput(context, shape),
    ]);
    return new Linear(vector, tile, bytes);
  }

  /**
   * The vector kernels of only some of the matrix's rows, for the last rows of a step. The spans of `rows` begin at multiples of `ROW_ALIGNMENT`. The rest
   * of y is not written.
   */
  static async compileRows(context: ProgramContext, shape: MatrixShape, use: LinearUse, rows: RowSet): Promise<Linear> {
    const pieces = piecesOf(shape, context.gpu.maxBindingBytes, rows);
    return new Linear(await compileVector(context, shape, use, pieces, { lastRows: true }), [], null);
  }

  bindVector(matrix: GpuMatrix, tensors: LinearTensors): VectorStep[] {
    return this.#vector.map(({ kernel, piece, compileBatch }) => {
      const bound = pieceTensors(matrix, piece, tensors);
      return new VectorStep(kernel.bind(bound), async (choice, rows) => (await compileBatch(choice, rows))?.bind(bound) ?? null);
    });
  }

  /** The kernel to run on x before the tile kernels, once for all products of the same x. Null if they take x in f32. */
  bindQuantise({ state, x }: Pick<LinearTensors, "state" | "x">): BoundKernel<StepShape> | null {
    return this.#bytes ? this.#bytes.quantise.bind({ state, x, ...this.#bytes.tensors }) : null;
  }

  bindTile(matrix: GpuMatrix, tensors: LinearTensors): BoundKernel<StepShape>[] {
    const bytes = this.#bytes?.tensors;
    return this.#tile.map(({ kernel, piece }) => kernel.bind({ ...pieceTensors(matrix, piece, tensors), ...bytes }));
  }
}

/** The products computed by the vector kernels of some of the rows, each with its rows. */
export function vectorProducts(
  context: ProgramContext,
  shape: MatrixShape,
  use: LinearUse,
  rows: RowSet,
): { readonly product: GemvProduct; readonly rows: RowSet }[] {
  return piecesOf(shape, context.gpu.maxBindingBytes, rows).map((piece) => ({
    product: productOf(context, shape, use, piece),
    rows: [{ start: piece.firstRow, end: piece.firstRow + piece.rowCount }],
  }));
}

function productOf({ subgroups }: ProgramContext, { format, columns }: MatrixShape, use: LinearUse, piece: Piece): GemvProduct {
  const { epilogue, bias, normEpsilon } = use;
  return { format, rows: piece.rowCount, columns, epilogue, norm: normEpsilon !== undefined, bias, subgroups };
}

function compileVector(
  context: ProgramContext,
  shape: MatrixShape,
  use: LinearUse,
  pieces: readonly Piece[],
  { lastRows }: { readonly lastRows: boolean },
): Promise<PieceVector[]> {
  const { kernels, subgroups, gemvTuning } = context;
  const { format, columns } = shape;
  const { epilogue, bias, normEpsilon, yStride } = use;
  return Promise.all(
    pieces.map(async (piece) => {
      const options: BatchableProduct = {
        ...{ format, columns, bias, epilogue, subgroups, yStride },
        rows: piece.rowCount,
        yOffset: piece.firstRow * outputsPerRow(epilogue),
        tuning: gemvTuning(productOf(context, shape, use, piece)),
        ...(normEpsilon === undefined ? {} : { normEpsilon }),
      };
      const compileBatch: PieceVector["compileBatch"] = async (choice, stepRows) => {
        const batch = choice(options, stepRows);
        return batch && kernels.compile(matmulVector, { ...options, ...batch });
      };
      return { piece, kernel: await kernels.compile(matmulVector, { ...options, lastRows }), compileBatch };
    }),
  );
}

function takesBytes({ dp4a }: ProgramContext, format: WeightFormat): format is Dp4aFormat {
  return dp4a && isDp4aFormat(format);
}

async function compileByteInput(context: ProgramContext, { format, columns }: MatrixShape): Promise<ByteInput | null> {
  if (!takesBytes(context, format)) return null;
  const { kernels, scratch } = context;
  const tensors = { x_codes: scratch.tensor("xCodes"), x_scales: scratch.tensor("xScales") };
  return { quantise: await kernels.compile(quantiseRows, { columns }), tensors };
}

function compileTile(
  context: ProgramContext,
  shape: MatrixShape,
  use: LinearUse,
  pieces: readonly Piece[],
): Promise<PieceKernel<TileKernel>[]> {
  const { gpu, kernels, subgroupMatrix } = context;
  const { format, columns } = shape;
  const { epilogue, bias, yStride } = use;
  return Promise.all(
    pieces.map(async (piece) => {
      const rows = piece.rowCount;
      const options = { columns, bias, epilogue, yStride, rows, yOffset: piece.firstRow * outputsPerRow(epilogue) };
      if (takesBytes(context, format)) return { piece, kernel: await kernels.compile(matmulDp4a, { ...options, format }) };
      // Matrix units round weights to f16. Weights stored as f32 must keep their precision.
      const kernel =
        subgroupMatrix && format !== "f32"
          ? await kernels.compile(matmulSubgroupMatrix, { ...options, format })
          : await kernels.compile(matmulTile, { ...options, format, tile: tileKind(rows, gpu.features) });
      return { piece, kernel };
    }),
  );
}

function outputsPerRow(epilogue: Epilogue): number {
  return epilogue === "silu-gated" ? 0.5 : 1;
}

function piecesOf(shape: MatrixShape, maxBindingBytes: number, rows: RowSet): Piece[] {
  return splitRows(shape, maxBindingBytes).flatMap(({ firstRow, rowCount }, part) =>
    rows.flatMap(({ start, end }) => {
      const first = Math.max(start, firstRow);
      const count = Math.min(end, firstRow + rowCount) - first;
      return count > 0 ? [{ part, firstRow: first, rowCount: count, rowOffset: first - firstRow }] : [];
    }),
  );
}

function pieceTensors(matrix: GpuMatrix, piece: Piece, { state, x, y, bias, normWeight }: LinearTensors) {
  return {
    ...{ state, x, y },
    ...matrix.rowTensors(piece.part, piece.rowOffset, piece.rowCount),
    ...(bias ? { bias } : {}),
    ...(normWeight ? { norm_weight: normWeight } : {}),
  };
}
