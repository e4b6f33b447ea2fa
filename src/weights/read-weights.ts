// Reads the bytes that a plan names.
import type { MatrixPlan, PlanPart, VectorPlan } from "./model-weights";
import { type PackPart, type PackTask, packVector } from "./pack";

/** The matrix's bytes, ready to be packed. Throws what the source throws. */
export async function readMatrix({ rows, columns, format, parts }: MatrixPlan, signal?: AbortSignal): Promise<PackTask> {
  return { rows, columns, format, parts: await readParts(parts, signal) };
}

/** @throws LlmError "bad-weights" when a value is no finite number; what the source throws */
export async function readVector(
  { length, parts }: Pick<VectorPlan, "length" | "parts">,
  signal?: AbortSignal,
): Promise<Float32Array<ArrayBuffer>> {
  return packVector(length, await readParts(parts, signal));
}

function readParts(parts: readonly PlanPart[], signal?: AbortSignal): Promise<PackPart[]> {
  return Promise.all(
    parts.map(async ({ tensor, runs }) => ({
      where: `"${tensor.name}" in ${tensor.source.name}`,
      type: tensor.type,
      bytes: await tensor.source.read(tensor.range, signal),
      runs,
    })),
  );
}
