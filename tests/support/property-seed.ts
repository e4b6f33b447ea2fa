// Runs before each file of unit tests: property tests draw from one fixed seed, so that a run does not depend on luck. The long suite draws from a
// new one, which vitest.config.ts prints; what that finds becomes a test of its own, by name.
import fc from "fast-check";
import { inject } from "vitest";

declare module "vitest" {
  interface ProvidedContext {
    propertySeed: number;
  }
}

fc.configureGlobal({ seed: inject("propertySeed") });
