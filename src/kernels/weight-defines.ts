// Defines that shaders/include/weights.wgsl needs.
import type { Defines } from "../gpu/preprocess";
import { GROUP, paddedColumns, type WeightFormat } from "../weight-format";

export const WEIGHT_FORMATS: readonly WeightFormat[] = ["f32", "f16", "q8", "q4", "q4m"];

export function weightDefines(format: WeightFormat, columns: number): Defines {
  return { FORMAT: format, SCALED: format !== "f32" && format !== "f16", GROUPS: paddedColumns(columns) / GROUP };
}
