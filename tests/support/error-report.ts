// Vitest reporter of the GPU suite: prints adapter, browser, the worst error of each kernel and golden case and what was skipped, and
// fails the run where an error is worse than tests/baseline.json allows. `npm run test:gpu -- --update` writes that file anew.
import { readFileSync, writeFileSync } from "node:fs";
import type { Reporter, TestCase, TestModule, TestRunEndReason, Vitest } from "vitest/node";
import { isAskedFor, skipReason } from "./asked-tests.ts";
import { type Baseline, compareWithBaseline, type Finding, type Measurement, updateBaseline, worstBySubject } from "./baseline.ts";

const BASELINE = new URL("../baseline.json", import.meta.url);

export class ErrorReport implements Reporter {
  #vitest: Vitest | null = null;

  onInit(vitest: Vitest): void {
    this.#vitest = vitest;
  }

  async onTestRunEnd(modules: readonly TestModule[], _errors: unknown, reason: TestRunEndReason): Promise<void> {
    const gpuModules = modules.filter(({ project }) => /^(gpu|dawn)\b/.test(project.name));
    const tests = gpuModules.flatMap((module) => [...module.children.allTests()]);
    const adapter = tests.map((test) => test.meta().adapter).find(Boolean);
    if (!this.#vitest || !adapter) return;
    // The harness's own tests err on purpose.
    const suite = tests.filter((test) => !test.module.moduleId.includes("/tests/support/"));
    const run = worstBySubject(suite.flatMap((test) => (test.meta().errors ?? []).map((error) => ({ ...error, test: nameOf(test) }))));
    const baseline = JSON.parse(readFileSync(BASELINE, "utf8")) as Baseline;
    const asked = tests.filter(isAskedFor(this.#vitest));
    const lines = [`\n${adapter.name} in ${browserName(tests)}`, ...describeRun(run, baseline), ...describeSkips(asked)];
    const isWhole = await isWholeRun(this.#vitest, gpuModules);
    const coverage = { adapter: adapter.kind, isWhole, ...ranAndSkipped(asked) };
    if (this.#vitest.config.snapshotOptions.updateSnapshot === "all" && reason === "passed") {
      writeFileSync(BASELINE, `${JSON.stringify(updateBaseline(baseline, run, coverage), null, 2)}\n`);
      lines.push("tests/baseline.json now holds this run's errors.");
    } else {
      const findings = compareWithBaseline(baseline, run, coverage);
      lines.push(...findings.map(describeFinding));
      // A new subject is held by its test's own tolerance until the baseline knows it.
      if (findings.some(({ type }) => type !== "unknown")) process.exitCode = 1;
      else lines.push(`No error is worse than tests/baseline.json allows${isWhole ? "" : " (part of the suite ran)"}.`);
    }
    this.#vitest.logger.log(lines.join("\n"));
  }
}

function ranAndSkipped(tests: readonly TestCase[]): { readonly ran: ReadonlySet<string>; readonly skipped: ReadonlySet<string> } {
  const isSkipped = (test: TestCase) => test.result().state === "skipped";
  const names = (chosen: readonly TestCase[]) => new Set(chosen.map(nameOf));
  return { ran: names(tests.filter((test) => !isSkipped(test))), skipped: names(tests.filter(isSkipped)) };
}

function nameOf(test: TestCase): string {
  return `${test.module.relativeModuleId} > ${test.fullName}`;
}

function describeRun(run: readonly Measurement[], baseline: Baseline): string[] {
  if (run.length === 0) return [];
  const rows = run.map(({ subject, worst }) => {
    const allowed = baseline[subject]?.allowed;
    return `${worst.toExponential(1).padStart(12)}${(allowed?.toExponential(1) ?? "–").padStart(10)}  ${subject}`;
  });
  return [" worst error   allowed", ...rows];
}

function describeSkips(tests: readonly TestCase[]): string[] {
  const counts = new Map<string, number>();
  for (const test of tests) {
    const result = test.result();
    if (result.state !== "skipped") continue;
    const reason = skipReason(test);
    counts.set(reason, (counts.get(reason) ?? 0) + 1);
  }
  const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
  return [`${total} skipped${total > 0 ? ":" : "."}`, ...[...counts].map(([note, count]) => `${String(count).padStart(5)}  ${note}`)];
}

function describeFinding(finding: Finding): string {
  switch (finding.type) {
    case "worse":
      return `WORSE    ${finding.subject}: ${finding.worst.toExponential(1)}, tests/baseline.json allows ${finding.allowed.toExponential(1)}`;
    case "unknown":
      return `UNKNOWN  ${finding.subject} is not in tests/baseline.json: npm run test:gpu -- --update`;
    case "missing":
      return `MISSING  ${finding.subject} is in tests/baseline.json, but its test did not measure it`;
    case "untested":
      return `UNTESTED ${finding.subject} is in tests/baseline.json, but there is no test "${finding.test}"; renamed? npm run test:gpu -- --update`;
    default:
      return finding satisfies never;
  }
}

/** Whether all of the suite ran, in the browser: not a chosen file or name, and not under Dawn. */
async function isWholeRun(vitest: Vitest, modules: readonly TestModule[]): Promise<boolean> {
  if (vitest.config.testNamePattern || vitest.config.tagsFilter) return false;
  const isSuite = ({ project }: { project: { name: string } }) => project.name.startsWith("gpu");
  const all = (await vitest.globTestSpecifications()).filter(isSuite);
  return modules.every(isSuite) && modules.length === all.length;
}

function browserName(tests: readonly TestCase[]): string {
  const agent = tests.map((test) => test.meta().userAgent).find(Boolean) ?? "an unknown browser";
  return /(?:Headless)?(Chrome\/[\d.]+)/.exec(agent)?.[1] ?? agent;
}
