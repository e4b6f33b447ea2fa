// Matrix × matrix with x in eight bits. One instruction multiplies and adds four bytes.
import wgsl from "../../shaders/matmul-dp4a.wgsl?raw";
import { assert } from "../assert";
import { defineKernel } from "../gpu/kernel";
import type { WeightFormat } from "../weight-format";
import { EPILOGUES, epilogueDefine } from "./epilogue";
import type { MatmulTileOptions } from "./matmul-tile";
import type { StepShape } from "./step-shape";
import { weightDefines } from "./weight-defines";

/** Formats whose codes have at most eight bits. */
export type Dp4aFormat = Exclude<WeightFormat, "f32" | "f16">;

export const DP4A_FORMATS: readonly Dp4aFormat[] = ["q8", "q4", "q4m"];

export function isDp4aFormat(format: WeightFormat): format is Dp4aFormat {
  return DP4A_FORMATS.some((each) => each === format);
}

export interface MatmulDp4aOptions extends Omit<MatmulTileOptions, "format" | "tile"> {
  readonly format: Dp4aFormat;
  /** `DP4A_TILE` by default. */
  readonly tile?: Dp4aTile;
}

/** The outputs of a workgroup. A thread computes `threadRows` × 4 of them. */
export interface Dp4aTile {
  readonly rows: number;
  readonly columns: number;
  readonly threadRows: number;
}

// On an H100 with 1,024 rows, this was the best of nine tiles for 1,536 × 8,960. For other shapes in q4m it is within 10 % of the best
// (docs/decisions/0007).
export const DP4A_TILE: Dp4aTile = { rows: 64, columns: 64, threadRows: 8 };

/**
 * quantise-rows writes `x_codes` and `x_scales`; the other tensors are those of matmul-tile. Rounding x to eight bits loses precision: the error of a
 * value is up to 1/254 of the largest of its 32 values.
 */
export const matmulDp4a = defineKernel<"state" | "x_codes" | "x_scales" | "codes" | "scales" | "bias" | "y", MatmulDp4aOptions, StepShape>({
  name: "matmul-dp4a",
  wgsl,
  bindings: ["state", "x_codes", "x_scales", "codes", "scales", "bias", "y"],
  variant({ format, rows, columns, bias, epilogue, yStride, yOffset, tile = DP4A_TILE }) {
    assert(epilogue !== "silu-gated" || rows % 2 === 0, `${rows} interleaved rows of gate and up`);
    return {
      defines: {
        ...weightDefines(format, columns),
        BIAS: bias,
        EPILOGUE: epilogueDefine(epilogue),
        TILE_ROWS: tile.rows,
        TILE_COLUMNS: tile.columns,
        THREAD_ROWS: tile.threadRows,
      },
      constants: { ROWS: rows, Y_STRIDE: yStride, Y_OFFSET: yOffset },
    };
  },
  workgroups: ({ rows, tile = DP4A_TILE }, step) => [Math.ceil(rows / tile.columns), Math.ceil(step.rows / tile.rows), 1],
});

export const matmulDp4aVariants: readonly MatmulDp4aOptions[] = DP4A_FORMATS.flatMap((format) =>
  EPILOGUES.flatMap((epilogue) =>
    [true, false].map((bias) => ({ format, rows: 64, columns: 100, bias, epilogue, yStride: 64, yOffset: 0 })),
  ),
);
