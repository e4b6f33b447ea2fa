// Matrix × matrix with x in eight bits, by products of four bytes an instruction.
import wgsl from "../../shaders/matmul-dp4a.wgsl?raw";
import { assert } from "../assert";
import { defineKernel } from "../gpu/kernel";
import type { WeightFormat } from "../weight-format";
import { EPILOGUES, epilogueDefine } from "./epilogue";
import type { MatmulTileOptions } from "./matmul-tile";
import type { StepShape } from "./step-shape";
import { weightDefines } from "./weight-defines";

/** Formats whose codes are bytes or less. */
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

/** Outputs of a workgroup, of which a thread computes `threadRows` × 4. */
export interface Dp4aTile {
  readonly rows: number;
  readonly columns: number;
  readonly threadRows: number;
}

// On an H100, of 1,024 rows: of nine tiles the best for 1,536 × 8,960, within 10 % of the best for others in q4m (docs/decisions/0007).
export const DP4A_TILE: Dp4aTile = { rows: 64, columns: 64, threadRows: 8 };

/**
 * `x_codes` and `x_scales` as quantise-rows leaves them; other tensors as matmul-tile has them. What eight bits lose of x is lost: as
 * large an error as 1/254 of the largest of 32 values.
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
