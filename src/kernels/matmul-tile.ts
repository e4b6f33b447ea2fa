// Matrix × matrix, the products of a prefill chunk.
import wgsl from "../../shaders/matmul-tile.wgsl?raw";
import { assert } from "../assert";
import { defineKernel } from "../gpu/kernel";
import type { WeightFormat } from "../weight-format";
import { type Epilogue, epilogueDefine } from "./epilogue";
import type { StepShape } from "./step-shape";
import { WEIGHT_FORMATS, weightDefines } from "./weight-defines";

export interface MatmulTileOptions {
  readonly format: WeightFormat;
  /** Rows of the matrix: columns of the product before the epilogue. */
  readonly rows: number;
  /** Columns of the matrix before padding. */
  readonly columns: number;
  readonly bias: boolean;
  readonly epilogue: Epilogue;
  /** Floats between rows of y. */
  readonly yStride: number;
  /** Index in a row of y of the first output. */
  readonly yOffset: number;
  /** `f16` keeps the staged weights in f16 (needs shader-f16); x and the sums are f32 in both. */
  readonly math: "f32" | "f16";
  /** `large`, the default, reuses most; `small` wastes less on up to 16 rows; `direct` has no barriers, for adapters in software. */
  readonly tile?: TileKind;
}

type TileKind = "large" | "small" | "direct";

const TILE_COLUMNS = 64;
const TILES: Readonly<Record<TileKind, { readonly tileRows: number; readonly threadRows: number; readonly staged: boolean }>> = {
  large: { tileRows: 64, threadRows: 4, staged: true },
  small: { tileRows: 16, threadRows: 1, staged: true },
  direct: { tileRows: 16, threadRows: 4, staged: false },
};

/** `x`: f32 [rows of the step, paddedColumns(columns)]; `bias`: f32 [rows]; `y`: f32 [rows of the step, yStride]. */
export const matmulTile = defineKernel<"state" | "x" | "codes" | "scales" | "bias" | "y", MatmulTileOptions, StepShape>({
  name: "matmul-tile",
  wgsl,
  bindings: ["state", "x", "codes", "scales", "bias", "y"],
  variant({ format, rows, columns, bias, epilogue, yStride, yOffset, math, tile = "large" }) {
    assert(epilogue !== "silu-gated" || rows % 2 === 0, `${rows} interleaved rows of gate and up`);
    const { tileRows, threadRows, staged } = TILES[tile];
    return {
      defines: {
        ...weightDefines(format, columns),
        BIAS: bias,
        EPILOGUE: epilogueDefine(epilogue),
        MATH: math,
        TILE_ROWS: tileRows,
        THREAD_ROWS: threadRows,
        STAGED: staged,
      },
      constants: { ROWS: rows, Y_STRIDE: yStride, Y_OFFSET: yOffset },
    };
  },
  workgroups: ({ rows, tile = "large" }, shape) => [Math.ceil(rows / TILE_COLUMNS), Math.ceil(shape.rows / TILES[tile].tileRows), 1],
});

const EPILOGUES: readonly Epilogue[] = ["store", "add", "silu-gated", "gelu", "gelu-tanh"];

export const matmulTileVariants: readonly MatmulTileOptions[] = WEIGHT_FORMATS.flatMap((format) =>
  (["f32", "f16"] as const).flatMap((math) =>
    EPILOGUES.flatMap((epilogue, index) => [
      { format, rows: 64, columns: 100, bias: index % 2 === 0, epilogue, yStride: 64, yOffset: 0, math, tile: "large" as const },
      { format, rows: 64, columns: 100, bias: index % 2 === 1, epilogue, yStride: 64, yOffset: 0, math, tile: "small" as const },
    ]),
  ),
);
