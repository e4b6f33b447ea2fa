// Runs every check and test there is, one after the other. At the end it says which tests were slowest, what was skipped and why, and in the very
// last line how many passed, failed and were skipped. With --shared it runs only the tests that read ../shared, which a clone lacks.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NAMES_SHARED, SHARED_TAG } from "../tests/support/shared-tag";
import { ensureChromium } from "./chromium";
import {
  addCounts,
  type Counts,
  countOutcomes,
  describeCounts,
  describeSkipped,
  describeSlowest,
  FAILURE,
  NOTHING,
  playwrightOutcomes,
  SUCCESS,
  type TestOutcome,
} from "./test-results";

const scratch = mkdtempSync(join(tmpdir(), "crescendo-test-"));
const outcomes: TestOutcome[] = [];
try {
  const counts = process.argv.includes("--shared") ? testShared() : testAll();
  report(addCounts([...counts, countOutcomes(outcomes)]));
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

function testAll(): Counts[] {
  const hasChromium = ensureChromium();
  const counts = [check("lint"), check("typecheck"), vitest("unit"), check("build"), check("build:demo")];
  return hasChromium ? [...counts, vitest("gpu"), playwright()] : [...counts, FAILURE];
}

function testShared(): Counts[] {
  if (!existsSync("../shared")) {
    console.error("There is no ../shared beside this folder: these tests have nothing to read.");
    return [FAILURE];
  }
  const options = ["--tags-filter", SHARED_TAG];
  if (!ensureChromium()) return [FAILURE];
  return [
    vitest("unit", [...options, ...filesThatNameShared("tests/unit")]),
    vitest("gpu", [...options, ...filesThatNameShared("tests/engine")]),
  ];
}

/** The others would only be imported, which takes longer than these tests. A house test sees to it that no file names ../shared for another. */
function filesThatNameShared(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".test.ts"))
    .map((name) => join(folder, name))
    .filter((path) => NAMES_SHARED.test(readFileSync(path, "utf8")));
}

function report(counts: Counts): void {
  const slowest = describeSlowest(outcomes);
  const skipped = describeSkipped(outcomes);
  if (slowest.length > 0) console.log(["\nThe slowest tests:", ...slowest].join("\n"));
  if (skipped.length > 0) console.log(["\nSkipped:", ...skipped].join("\n"));
  console.log(`\n${describeCounts(counts)}`);
  if (counts.failed > 0) process.exitCode = 1;
}

/** An npm script that passes or fails as one. */
function check(script: string): Counts {
  return run("npm", ["run", "--silent", script], {}) ? SUCCESS : FAILURE;
}

function vitest(project: "unit" | "gpu", options: readonly string[] = []): Counts {
  const file = join(scratch, `${project}.json`);
  const succeeded = run("npx", ["--no-install", "vitest", "run", "--project", project, ...options], { CRESCENDO_RESULTS: file });
  return settle(succeeded, readResults<TestOutcome[]>(file) ?? []);
}

function playwright(): Counts {
  const file = join(scratch, "e2e.json");
  const succeeded = run("npx", ["--no-install", "playwright", "test"], { CRESCENDO_RESULTS: file });
  const results = readResults<Parameters<typeof playwrightOutcomes>[0]>(file);
  return settle(succeeded, results ? playwrightOutcomes(results) : []);
}

/** Keeps a runner's outcomes. It may fail without a failed test: a file that does not load, an error worse than the baseline allows. */
function settle(succeeded: boolean, found: readonly TestOutcome[]): Counts {
  outcomes.push(...found);
  return succeeded || found.some(({ state }) => state === "failed") ? NOTHING : FAILURE;
}

function run(command: string, args: readonly string[], env: Readonly<Record<string, string>>): boolean {
  console.log(`\n> ${[command, ...args].join(" ")}`);
  const { status } = spawnSync(command, args, {
    stdio: ["ignore", "inherit", "inherit"],
    shell: process.platform === "win32",
    env: { ...process.env, ...env },
  });
  return status === 0;
}

function readResults<T>(file: string): T | null {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as T;
  } catch (cause) {
    console.error(`The runner left no results: ${cause instanceof Error ? cause.message : cause}`);
    return null;
  }
}
