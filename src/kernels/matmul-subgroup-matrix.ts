// Matrix × matrix on the matrix units of devices that have them: the products of a prefill chunk, several times as fast.
import wgsl from "../../shaders/matmul-subgroup-matrix.wgsl?raw";
import { assert } from "../assert";
import { defineKernel } from "../gpu/kernel";
import { EPILOGUES, epilogueDefine } from "./epilogue";
import type { MatmulTileOptions } from "./matmul-tile";
import type { StepShape } from "./step-shape";
import { WEIGHT_FORMATS, weightDefines } from "./weight-defines";

export type MatmulSubgroupMatrixOptions = Omit<MatmulTileOptions, "tile">;

const TILE = 64;

/** The tensors are those of matmul-tile. Weights and x are rounded to f16; x may be from 5e-7 to a million. Needs `GpuFeatures.subgroupMatrix`. */
export const matmulSubgroupMatrix = defineKernel<"state" | "x" | "codes" | "scales" | "bias" | "y", MatmulSubgroupMatrixOptions, StepShape>(
  {
    name: "matmul-subgroup-matrix",
    wgsl,
    bindings: ["state", "x", "codes", "scales", "bias", "y"],
    variant({ format, rows, columns, bias, epilogue, yStride, yOffset }) {
      assert(epilogue !== "silu-gated" || rows % 2 === 0, `${rows} interleaved rows of gate and up`);
      return {
        defines: { ...weightDefines(format, columns), BIAS: bias, EPILOGUE: epilogueDefine(epilogue) },
        constants: { ROWS: rows, Y_STRIDE: yStride, Y_OFFSET: yOffset },
      };
    },
    workgroups: ({ rows }, step) => [Math.ceil(rows / TILE), Math.ceil(step.rows / TILE), 1],
  },
);

export const matmulSubgroupMatrixVariants: readonly MatmulSubgroupMatrixOptions[] = WEIGHT_FORMATS.flatMap((format) =>
  EPILOGUES.flatMap((epilogue) =>
    [false, true].map((bias) => ({ format, rows: 64, columns: 100, bias, epilogue, yStride: 64, yOffset: 0 })),
  ),
);
