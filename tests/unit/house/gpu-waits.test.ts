// A device may tell of finished work late (Firefox: every 100 ms). Waits go through `Gpu.workDone` and `Gpu.mapped`, which know.
import { expect, test } from "vitest";
import { readText, repositoryFiles } from "./source-files";

test("nothing in src waits for the GPU but through gpu/completion", () => {
  const waits = repositoryFiles("src").filter((path) => path.endsWith(".ts") && /\.(onSubmittedWorkDone|mapAsync)\(/.test(readText(path)));
  expect(waits).toEqual(["src/gpu/completion.ts"]);
});
