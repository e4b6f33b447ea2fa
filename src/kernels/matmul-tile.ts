// Matrix × matrix, the products of a prefill chunk.
import wgsl from "../../shaders/matmul-tile.wgsl?raw";
import { assert } from "../assert";
import { defineKernel } from "../gpu/kernel";
import type { WeightFormat } from "../weight-format";
import { EPILOGUES, type Epilogue, epilogueDefine } from "./epilogue";
import type { StepShape } from "./step-shape";
import { WEIGHT_FORMATS, weightDefines } from "./weight-defines";

export interface MatmulTileOptions {
  readonly format: WeightFormat;
  /** Rows of the matrix, which are columns of the product before the epilogue. */
  readonly rows: number;
  /** Columns of the matrix before padding. */
  readonly columns: number;
  readonly bias: boolean;
  readonly epilogue: Epilogue;
  /** Floats between rows of y. */
  readonly yStride: number;
  /** Index in a row of y of the first output. */
  readonly yOffset: number;
  readonly tile?: TileKind;
}

/**
 * - `large`, the default: reuses loaded values most.
 * - `small`: wastes less on few rows, and fills a large GPU if both dimensions are small.
 * - `direct`: no workgroup memory and no barriers, for software adapters.
 */
export type TileKind = "large" | "small" | "direct";

interface Tile {
  readonly rows: number;
  readonly columns: number;
  /** Rows that one thread computes, four columns wide. */
  readonly threadRows: number;
  readonly staged: boolean;
}

// Measured on an H100 in q4m, large and small tile. 512 rows: 69 and 111 µs for 3072 × 576, 33 and 30 for 576 × 576. 32 rows: 31 and 15, 33 and 14.
const TILES: Readonly<Record<TileKind, Tile>> = {
  large: { rows: 64, columns: 64, threadRows: 8, staged: true },
  small: { rows: 16, columns: 32, threadRows: 2, staged: true },
  direct: { rows: 16, columns: 64, threadRows: 4, staged: false },
};

/** The tile for a matrix of `rows` rows on an adapter. */
export function tileKind(rows: number, { software }: { readonly software: boolean }): TileKind {
  if (software) return "direct";
  return rows <= 768 ? "small" : "large";
}

/** `x`: f32 [rows of the step, paddedColumns(columns)]; `bias`: f32 [rows]; `y`: f32 [rows of the step, yStride]. */
export const matmulTile = defineKernel<"state" | "x" | "codes" | "scales" | "bias" | "y", MatmulTileOptions, StepShape>({
  name: "matmul-tile",
  wgsl,
  bindings: ["state", "x", "codes", "scales", "bias", "y"],
  variant({ format, rows, columns, bias, epilogue, yStride, yOffset, tile = "large" }) {
    assert(epilogue !== "silu-gated" || rows % 2 === 0, `${rows} interleaved rows of gate and up`);
    const shape = TILES[tile];
    return {
      defines: {
        ...weightDefines(format, columns),
        BIAS: bias,
        EPILOGUE: epilogueDefine(epilogue),
        TILE_ROWS: shape.rows,
        TILE_COLUMNS: shape.columns,
        THREAD_ROWS: shape.threadRows,
        STAGED: shape.staged,
      },
      constants: { ROWS: rows, Y_STRIDE: yStride, Y_OFFSET: yOffset },
    };
  },
  workgroups({ rows, tile = "large" }, step) {
    const shape = TILES[tile];
    return [Math.ceil(rows / shape.columns), Math.ceil(step.rows / shape.rows), 1];
  },
});

const TILE_KINDS: readonly TileKind[] = ["large", "small", "direct"];

export const matmulTileVariants: readonly MatmulTileOptions[] = WEIGHT_FORMATS.flatMap((format) =>
  EPILOGUES.flatMap((epilogue) =>
    TILE_KINDS.map((tile) => {
      const bias = tile === "large";
      return { format, rows: 64, columns: 100, bias, epilogue, yStride: 64, yOffset: 0, tile };
    }),
  ),
);
