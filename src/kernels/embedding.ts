// Looks up the step's token ids in the embedding table.
import wgsl from "../../shaders/embedding.wgsl?raw";
import { defineKernel } from "../gpu/kernel";
import type { WeightFormat } from "../weight-format";
import type { StepShape } from "./step-shape";
import { WEIGHT_FORMATS, weightDefines } from "./weight-defines";

export interface EmbeddingOptions {
  readonly format: WeightFormat;
  /** The hidden size. */
  readonly columns: number;
  /** The id of the bound part's first row; 0 for a table in one part. */
  readonly firstRow: number;
  /** Rows in the bound part. Dispatches of other parts handle ids outside it. */
  readonly rowCount: number;
}

const WORKGROUP_SIZE = 64;

/** `y`: f32 [rows, paddedColumns(columns)], for the tokens in `state`. Stopped rows are not written. */
export const embedding = defineKernel<"state" | "codes" | "scales" | "y", EmbeddingOptions, StepShape>({
  name: "embedding",
  wgsl,
  bindings: ["state", "codes", "scales", "y"],
  variant: ({ format, columns, firstRow, rowCount }) => ({
    defines: { ...weightDefines(format, columns), COLUMNS: columns, WORKGROUP_SIZE },
    constants: { FIRST_ROW: firstRow, ROW_COUNT: rowCount },
  }),
  workgroups: (_, { rows }) => [rows, 1, 1],
});

export const embeddingVariants: readonly EmbeddingOptions[] = WEIGHT_FORMATS.map((format) => ({
  format,
  columns: 100,
  firstRow: 0,
  rowCount: 10,
}));
