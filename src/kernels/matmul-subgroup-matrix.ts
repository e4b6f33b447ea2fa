// Matrix × matrix on a device's matrix units, where it has them: the products of a prefill chunk, several times as fast.
import wgsl from "../../shaders/matmul-subgroup-matrix.wgsl?raw";
import { assert } from "../assert";
import { defineKernel } from "../gpu/kernel";
import { type Epilogue, epilogueDefine } from "./epilogue";
import type { MatmulTileOptions } from "./matmul-tile";
import type { StepShape } from "./step-shape";
import { WEIGHT_FORMATS, weightDefines } from "./weight-defines";

export interface MatmulSubgroupMatrixOptions extends Omit<MatmulTileOptions, "tile"> {
  /** Rows and columns of the blocks that the device multiplies: `GpuFeatures.subgroupMatrix`. */
  readonly blockSize: number;
  /** Rows of x that a workgroup takes: 128 reuses most, 64 fills a large GPU where the matrix is small. */
  readonly tileRows: 64 | 128;
}

const TILE_COLUMNS = 64;

/** The rows of a tile for a matrix of `rows` rows. */
export function subgroupTileRows(rows: number): 64 | 128 {
  return rows <= 2048 ? 64 : 128;
}

/** Tensors as matmul-tile has them. Weights are rounded to f16, x to 22 bits; a subgroup must have 32 threads. */
export const matmulSubgroupMatrix = defineKernel<"state" | "x" | "codes" | "scales" | "bias" | "y", MatmulSubgroupMatrixOptions, StepShape>(
  {
    name: "matmul-subgroup-matrix",
    wgsl,
    bindings: ["state", "x", "codes", "scales", "bias", "y"],
    variant({ format, rows, columns, bias, epilogue, yStride, yOffset, blockSize, tileRows }) {
      assert(epilogue !== "silu-gated" || rows % 2 === 0, `${rows} interleaved rows of gate and up`);
      assert(blockSize === 8 || blockSize === 16, `blocks of ${blockSize}`);
      return {
        defines: {
          ...weightDefines(format, columns),
          BIAS: bias,
          EPILOGUE: epilogueDefine(epilogue),
          SIZE: `${blockSize}u`,
          TILE_ROWS: `${tileRows}u`,
          TILE_COLUMNS: `${TILE_COLUMNS}u`,
        },
        constants: { ROWS: rows, Y_STRIDE: yStride, Y_OFFSET: yOffset },
      };
    },
    workgroups: ({ rows, tileRows }, step) => [Math.ceil(rows / TILE_COLUMNS), Math.ceil(step.rows / tileRows), 1],
  },
);

const EPILOGUES: readonly Epilogue[] = ["store", "add", "silu-gated", "gelu", "gelu-tanh"];

export const matmulSubgroupMatrixVariants: readonly MatmulSubgroupMatrixOptions[] = WEIGHT_FORMATS.flatMap((format) =>
  EPILOGUES.flatMap((epilogue) =>
    ([64, 128] as const).flatMap((tileRows) =>
      [8, 16].map((blockSize) => {
        const bias = tileRows === 64;
        return { format, rows: 64, columns: 100, bias, epilogue, yStride: 64, yOffset: 0, blockSize, tileRows };
      }),
    ),
  ),
);
