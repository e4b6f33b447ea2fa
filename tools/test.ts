// Runs every check and test there is, one after the other, and says at the very end how many passed, failed and were skipped.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ensureChromium } from "./chromium";

interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

interface VitestResults {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly numTodoTests: number;
}

interface PlaywrightResults {
  readonly stats: { readonly expected: number; readonly unexpected: number; readonly flaky: number; readonly skipped: number };
}

const scratch = mkdtempSync(join(tmpdir(), "crescendo-test-"));
try {
  const hasChromium = ensureChromium();
  const counts = [check("lint"), check("typecheck"), vitest("unit"), check("build"), check("build:demo")];
  if (hasChromium) counts.push(vitest("gpu"), playwright());
  else counts.push({ passed: 0, failed: 1, skipped: 0 });
  const sum = (key: keyof Counts) => counts.reduce((total, count) => total + count[key], 0);
  console.log(`\n${sum("passed")} passed, ${sum("failed")} failed, ${sum("skipped")} skipped`);
  if (sum("failed") > 0) process.exitCode = 1;
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

/** An npm script that passes or fails as one. */
function check(script: string): Counts {
  const succeeded = run("npm", ["run", "--silent", script], {});
  return { passed: succeeded ? 1 : 0, failed: succeeded ? 0 : 1, skipped: 0 };
}

function vitest(project: "unit" | "gpu"): Counts {
  const file = join(scratch, `${project}.json`);
  const succeeded = run("npx", ["--no-install", "vitest", "run", "--project", project], { CRESCENDO_RESULTS: file });
  const results = readResults<VitestResults>(file);
  return settle(succeeded, {
    passed: results?.numPassedTests ?? 0,
    failed: results?.numFailedTests ?? 0,
    skipped: (results?.numPendingTests ?? 0) + (results?.numTodoTests ?? 0),
  });
}

function playwright(): Counts {
  const file = join(scratch, "e2e.json");
  const succeeded = run("npx", ["--no-install", "playwright", "test"], { CRESCENDO_RESULTS: file });
  const stats = readResults<PlaywrightResults>(file)?.stats;
  return settle(succeeded, {
    passed: stats?.expected ?? 0,
    failed: (stats?.unexpected ?? 0) + (stats?.flaky ?? 0),
    skipped: stats?.skipped ?? 0,
  });
}

/** A runner may fail without a failed test: a file that does not load, an error worse than the baseline allows. */
function settle(succeeded: boolean, counts: Counts): Counts {
  return succeeded || counts.failed > 0 ? counts : { ...counts, failed: 1 };
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
