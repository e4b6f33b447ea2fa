// Vitest reporter that writes what became of each test that a run was asked for, for the end of `npm test` (tools/test.ts).
import { writeFileSync } from "node:fs";
import type { Reporter, TestCase, TestModule, Vitest } from "vitest/node";
import type { TestOutcome } from "../../tools/test-results.ts";
import { isAskedFor, skipReason } from "./asked-tests.ts";

export class OutcomeList implements Reporter {
  readonly #file: string;
  #vitest: Vitest | null = null;

  constructor(file: string) {
    this.#file = file;
  }

  onInit(vitest: Vitest): void {
    this.#vitest = vitest;
  }

  onTestRunEnd(modules: readonly TestModule[]): void {
    if (!this.#vitest) return;
    const tests = modules.flatMap((module) => [...module.children.allTests()]).filter(isAskedFor(this.#vitest));
    writeFileSync(this.#file, JSON.stringify(tests.map(outcomeOf)));
  }
}

function outcomeOf(test: TestCase): TestOutcome {
  const { state } = test.result();
  return {
    suite: test.project.name,
    file: test.module.relativeModuleId,
    name: test.fullName,
    // What never ended, as its page crashed, did not pass.
    state: state === "pending" ? "failed" : state,
    ms: test.diagnostic()?.duration ?? 0,
    ...(state === "skipped" ? { reason: skipReason(test) } : {}),
  };
}
