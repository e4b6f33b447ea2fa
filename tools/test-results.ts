// What the runners say of each test, in one form, and what is said of all of them at the end of a run.

export interface TestOutcome {
  /** Its runner's name for a part of all tests: "unit", "gpu", "e2e". */
  readonly suite: string;
  readonly file: string;
  readonly name: string;
  readonly state: "passed" | "failed" | "skipped";
  /** 0 where it did not run. */
  readonly ms: number;
  /** Why it was skipped. */
  readonly reason?: string;
}

export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

export const SUCCESS: Counts = { passed: 1, failed: 0, skipped: 0 };
export const FAILURE: Counts = { passed: 0, failed: 1, skipped: 0 };
export const NOTHING: Counts = { passed: 0, failed: 0, skipped: 0 };

interface PlaywrightSpec {
  readonly title: string;
  readonly file: string;
  readonly tests: readonly {
    readonly status: "expected" | "unexpected" | "flaky" | "skipped";
    readonly results: readonly { readonly duration: number }[];
    readonly annotations?: readonly { readonly type: string; readonly description?: string }[];
  }[];
}

interface PlaywrightSuite {
  readonly title: string;
  readonly specs?: readonly PlaywrightSpec[];
  readonly suites?: readonly PlaywrightSuite[];
}

/** Of Playwright's JSON report. A test that passed only when it was tried again has failed. */
export function playwrightOutcomes({ suites }: { readonly suites: readonly PlaywrightSuite[] }): TestOutcome[] {
  // The outermost suites are the files.
  return suites.flatMap((file) => outcomesUnder(file, []));
}

function outcomesUnder({ specs = [], suites = [] }: PlaywrightSuite, groups: readonly string[]): TestOutcome[] {
  const own = specs.flatMap(({ title, file, tests }) =>
    tests.map(({ status, results, annotations = [] }): TestOutcome => {
      const state = status === "expected" ? "passed" : status === "skipped" ? "skipped" : "failed";
      const reason = annotations.find(({ type }) => type === "skip")?.description ?? "no reason given";
      return {
        suite: "e2e",
        file,
        name: [...groups, title].join(" > "),
        state,
        ms: results.reduce((sum, { duration }) => sum + duration, 0),
        ...(state === "skipped" ? { reason } : {}),
      };
    }),
  );
  return [...own, ...suites.flatMap((suite) => outcomesUnder(suite, [...groups, suite.title]))];
}

export function countOutcomes(outcomes: readonly TestOutcome[]): Counts {
  const count = (wanted: TestOutcome["state"]) => outcomes.filter(({ state }) => state === wanted).length;
  return { passed: count("passed"), failed: count("failed"), skipped: count("skipped") };
}

export function addCounts(all: readonly Counts[]): Counts {
  const sum = (key: keyof Counts) => all.reduce((total, counts) => total + counts[key], 0);
  return { passed: sum("passed"), failed: sum("failed"), skipped: sum("skipped") };
}

/** The last line of a run; .ci/run reads it. */
export function describeCounts({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}

/** The slowest tests first, a line each. */
export function describeSlowest(outcomes: readonly TestOutcome[], count = 10): string[] {
  const slowest = outcomes
    .filter(({ ms }) => ms > 0)
    .sort((a, b) => b.ms - a.ms)
    .slice(0, count);
  return slowest.map(({ ms, suite, file, name }) => `${(ms / 1000).toFixed(1).padStart(7)} s  ${suite}  ${file} > ${name}`);
}

/** Why tests were skipped, with the number of them, most first. */
export function describeSkipped(outcomes: readonly TestOutcome[]): string[] {
  const counts = new Map<string, number>();
  for (const { state, reason = "no reason given" } of outcomes) {
    if (state === "skipped") counts.set(reason, (counts.get(reason) ?? 0) + 1);
  }
  return [...counts].sort(([, a], [, b]) => b - a).map(([reason, count]) => `${String(count).padStart(5)}  ${reason}`);
}
