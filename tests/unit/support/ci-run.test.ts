// .ci/run itself, on a repository of one file and with an npm of our own, which writes down what it sees.
import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { platform, tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

const FIRST = "12 passed, 0 failed, 5 skipped";
const SECOND = "3 passed, 0 failed, 2 skipped";
const NPM = `#!/usr/bin/env bash
[ -e ../shared/file ] && shared="with shared" || shared="without shared"
echo "$* $shared, $(git log --format=%s -1), input: [$(cat)]" >> "$NPM_LOG"
case "$*" in
  test) printf '%b\\n' "$FIRST"; echo "npm says more" >&2; exit "$FIRST_STATUS" ;;
  *shared) printf '%b\\n' "$SECOND" ;;
esac
`;

let folder: string;

function git(...args: readonly string[]): void {
  const { status, stderr } = spawnSync("git", args, { cwd: join(folder, "checkout"), encoding: "utf8" });
  expect(status, stderr).toBe(0);
}

/** Runs .ci/run where the two passes end in these lines. */
function run({ first = FIRST, second = SECOND, firstStatus = 0 } = {}) {
  const log = join(folder, "npm.log");
  writeFileSync(log, "");
  const PATH = [join(folder, "bin"), process.env.PATH].join(delimiter);
  const { status, stdout, stderr } = spawnSync(join(folder, "checkout/.ci/run"), {
    encoding: "utf8",
    input: "typed",
    env: { ...process.env, PATH, NPM_LOG: log, FIRST: first, SECOND: second, FIRST_STATUS: String(firstStatus) },
  });
  return { status, stderr, lastLine: stdout.trimEnd().split("\n").at(-1), commands: readFileSync(log, "utf8").trimEnd().split("\n") };
}

describe.skipIf(platform() === "win32")("a run of the CI", () => {
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "crescendo-ci-"));
    for (const each of ["bin", "shared", "checkout/.ci"]) mkdirSync(join(folder, each), { recursive: true });
    writeFileSync(join(folder, "shared/file"), "");
    writeFileSync(join(folder, "bin/npm"), NPM);
    chmodSync(join(folder, "bin/npm"), 0o755);
    copyFileSync(".ci/run", join(folder, "checkout/.ci/run"));
    git("init", "--quiet");
    git("add", "-A");
    git("-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "--quiet", "-m", "the commit");
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  test("tests a clone of the commit that has no ../shared beside it, and then what needs ../shared", () => {
    const { status, commands, stderr } = run();
    expect(commands, stderr).toEqual([
      "ci --no-audit --no-fund without shared, the commit, input: []",
      "test without shared, the commit, input: []",
      "run --silent test:shared with shared, the commit, input: []",
    ]);
    expect(status).toBe(0);
  });

  test("counts each test once: what the second pass ran was not skipped", () => {
    expect(run().lastLine).toBe("15 passed, 0 failed, 2 skipped");
    expect(run({ second: "0 passed, 0 failed, 5 skipped" }).lastLine).toBe(FIRST);
  });

  test.each([
    ["a test of the first pass fails", { first: "11 passed, 1 failed, 5 skipped", firstStatus: 1 }, 1],
    ["a test of the second pass fails", { second: "2 passed, 3 failed, 0 skipped" }, 3],
    ["the first pass ends without counts", { first: "Segmentation fault" }, 1],
    ["the second pass ends without counts", { second: `${SECOND}\\nand more` }, 1],
    ["the first pass fails without a failed test", { firstStatus: 7 }, 1],
  ])("fails where %s", (_, passes, failed) => {
    const { status, lastLine } = run(passes);
    expect(status).toBe(1);
    expect(lastLine).toMatch(new RegExp(`^\\d+ passed, ${failed} failed, \\d+ skipped$`));
  });

  test("runs the second pass though the first one failed", () => {
    expect(run({ first: "11 passed, 1 failed, 5 skipped", firstStatus: 1 }).commands).toHaveLength(3);
  });

  test("without ../shared beside the checkout leaves the second pass out", () => {
    rmSync(join(folder, "shared"), { recursive: true });
    const { status, lastLine, commands } = run();
    expect({ status, lastLine, count: commands.length }).toEqual({ status: 0, lastLine: FIRST, count: 2 });
  });
});
