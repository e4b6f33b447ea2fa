// Tests that take minutes, or models that nobody has at hand: CRESCENDO_LONG=1 runs them too.
import { inject, type TestContext, test } from "vitest";

declare module "vitest" {
  interface ProvidedContext {
    longSuite: boolean;
  }
}

export const LONG_SUITE = "part of the long suite: CRESCENDO_LONG=1";

/** A test of the long suite; elsewhere it is skipped, visibly. */
export function longTest(name: string, body: (context: TestContext) => Promise<void>, timeout?: number): void {
  test(
    name,
    async (context) => {
      context.skip(!inject("longSuite"), LONG_SUITE);
      await body(context);
    },
    timeout,
  );
}
