// Tests that take minutes, or models that nobody has at hand: CRESCENDO_LONG=1 runs them too.
import { inject, type TestContext, test } from "vitest";
import { hasTestFile } from "./test-files";

declare module "vitest" {
  interface ProvidedContext {
    longSuite: boolean;
  }
}

/** A test of the long suite; elsewhere it is skipped, visibly. */
export function longTest(name: string, body: (context: TestContext) => Promise<void>, timeout?: number): void {
  test(
    name,
    async (context) => {
      context.skip(!inject("longSuite"), "part of the long suite: CRESCENDO_LONG=1");
      await body(context);
    },
    timeout,
  );
}

/** Skips the rest of a test, visibly, where a file is not there: one of ../shared, which is not part of a clone. */
export async function skipWithout(context: TestContext, path: string): Promise<void> {
  context.skip(!(await hasTestFile(path)), `no ${path}`);
}
