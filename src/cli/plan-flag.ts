// Reads --plan: the stages in which a model loads.
import { readFileSync } from "node:fs";
import { LlmError } from "../errors";
import { parseStrictJson } from "../formats/strict-json";
import type { LoadOptions, ModelFiles } from "../index";

const PLAN_FILE = "progressive.json";

export interface PlannedFiles {
  readonly files: ModelFiles;
  readonly plan: NonNullable<LoadOptions["plan"]>;
}

/**
 * "auto" and "whole" mean the same as in `loadEngine`; "default" ignores the model's own plan; anything else is the path of a plan.
 *
 * @throws LlmError "not-found" | "bad-file"
 */
export function readPlanFlag(flag: string, files: ModelFiles): PlannedFiles {
  if (flag === "auto" || flag === "whole") return { files, plan: flag };
  if (flag === "default") return { files: withoutPlan(files), plan: "auto" };
  return { files, plan: readPlan(flag) };
}

function withoutPlan(files: ModelFiles): ModelFiles {
  return { ...files, open: async (file, signal) => (file === PLAN_FILE ? null : files.open(file, signal)) };
}

function readPlan(path: string): object {
  let value: unknown;
  try {
    value = parseStrictJson(readFileSync(path, "utf8"));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : cause;
    if (cause instanceof SyntaxError) throw new LlmError("bad-file", `${path} is not JSON: ${reason}`, { cause });
    throw new LlmError("not-found", `--plan ${path} is not auto, whole, default or a readable file (${reason})`, {
      cause,
    });
  }
  if (typeof value !== "object" || value === null)
    throw new LlmError("bad-file", `${path} is ${JSON.stringify(value)}, expected an object`);
  return value;
}
