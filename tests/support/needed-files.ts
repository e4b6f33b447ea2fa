// Tests that need files which a clone may lack. Such a test keeps its name whether the files are there or not, because tests/baseline.json
// knows tests by their names. Where a file is missing, the test is skipped and says which.
import type { TestOptions } from "vitest";
import { SHARED_TAG } from "./shared-tag.ts";
import { hasTestFile } from "./test-files.ts";

declare module "vitest" {
  interface TaskMeta {
    /** Why a test is skipped, for the end of a run. */
    skipReason?: string;
  }
}

/**
 * The options of a test, or of a group of tests, that needs all of `paths`:
 *
 *     test("the GGUF gives the same logits", await needsFiles("../shared/golden/llama-gqa/model.gguf"), async () => { … });
 */
export async function needsFiles(...paths: readonly string[]): Promise<Pick<TestOptions, "skip" | "tags" | "meta">> {
  const isThere = await Promise.all(paths.map(hasTestFile));
  const missing = paths.filter((_, index) => !isThere[index]);
  return {
    ...(paths.some((path) => path.startsWith("../shared/")) ? { tags: [SHARED_TAG] } : {}),
    ...(missing.length > 0 ? { skip: true, meta: { skipReason: describeMissing(missing) } } : {}),
  };
}

function describeMissing([first, ...others]: readonly string[]): string {
  return others.length === 0 ? `no ${first}` : `no ${first}, and ${others.length} more`;
}
