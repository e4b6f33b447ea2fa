// Runs before each file of GPU tests: an error of any device that a test made, caught by no scope, fails that test; and each test says
// on which adapter it ran.
import { afterEach } from "vitest";
import { takeUncaughtErrors, testAdapter } from "./watched-devices";

declare module "vitest" {
  interface TaskMeta {
    /** `kind` names it in the baseline: vendor and architecture. */
    adapter?: { readonly kind: string; readonly name: string };
    userAgent?: string;
  }
}

// No engine has the cuts that another test's measured, or is disturbed while it measures some.
if (navigator.storage) Object.defineProperty(navigator.storage, "getDirectory", { value: undefined, configurable: true });

afterEach(async ({ task }) => {
  const errors = await takeUncaughtErrors();
  const adapter = testAdapter();
  if (adapter) task.meta.adapter = adapter;
  task.meta.userAgent = navigator.userAgent;
  if (errors.length > 0) throw new Error(`WebGPU reported what no error scope caught:\n${errors.join("\n")}`);
});
