// The built command, dist/cli.js, as somebody runs it in a terminal: in Node, on this machine's adapter through Dawn.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "@playwright/test";
import { nodeGpuEnvironment } from "../support/node-gpu";

const MODEL = "tests/golden/llama-gqa"; // 6 layers, 512 tokens
const ID_COUNT = 80;
const UPGRADE_AT = 45; // within a page and within a chunk
const PLAN = {
  format: "crescendo-progressive",
  version: 1,
  stages: [
    { name: "A", layers: [0, 1, 5], rows: 200 },
    { name: "B", layers: [0, 1, 2, 3, 4, 5] },
  ],
};

test.setTimeout(300_000); // SwiftShader compiles every kernel anew in each run

let folder: string;
test.beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "crescendo-cli-"));
  writeFileSync(join(folder, "plan.json"), JSON.stringify(PLAN));
  const ids = Array.from({ length: ID_COUNT }, (_, position) => (position * 37 + 11) % 512);
  writeFileSync(join(folder, "ids.json"), JSON.stringify(ids));
});
test.afterAll(() => rmSync(folder, { recursive: true }));

interface Ended {
  readonly status: number | null;
  readonly output: string;
  readonly errors: string;
}

function crescendo(...args: readonly string[]): Promise<Ended> {
  const child = spawn(process.execPath, ["dist/cli.js", ...args], { env: { ...process.env, ...nodeGpuEnvironment() } });
  let output = "";
  let errors = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    errors += text;
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (status) => resolve({ status, output, errors }));
  });
}

function evaluate(...args: readonly string[]): Promise<Ended> {
  const inputs = ["--ids", join(folder, "ids.json"), "--plan", join(folder, "plan.json")];
  return crescendo("eval", "--model", MODEL, "--kv", "f32", ...inputs, ...args);
}

/** The largest |Δlogit| that a line of --against gives. */
function largestDelta(line: string | undefined): number {
  const [, delta] = /largest \|Δlogit\| (\S+)/.exec(line ?? "") ?? [];
  expect(delta, line).toBeDefined();
  return Number(delta);
}

test("eval that is upgraded on the way gives the logits of the stage loaded directly, from the upgrade on", async () => {
  const direct = join(folder, "direct.safetensors");
  const loaded = await evaluate("--stage", "B", "--out", direct);
  expect(loaded, loaded.errors).toMatchObject({ status: 0, output: `${direct}: logits [${ID_COUNT}, 512]\n` });

  const upgraded = await evaluate("--upgrade", `B@${UPGRADE_AT}`, "--against", direct);
  expect(upgraded.status, upgraded.errors).toBe(0);
  const [before, after, ...rest] = upgraded.output.trimEnd().split("\n");
  expect(rest).toEqual([]);
  expect(before).toContain(`stage A at positions 0 to ${UPGRADE_AT - 1}: KL`);
  expect(largestDelta(before)).toBeGreaterThan(0.1);
  expect(after).toContain(`stage B at positions ${UPGRADE_AT} to ${ID_COUNT - 1}: KL`);
  expect(largestDelta(after)).toBeLessThanOrEqual(1e-3);

  const events = upgraded.errors.trimEnd().split("\n");
  expect(events.map((line) => line.split(" ").slice(0, 2).join(" "))).toEqual([
    'stage-ready stage="A"',
    'upgrade-start stage="B"',
    'upgrade-end stage="B"',
    'stage-ready stage="B"',
  ]);
  expect(events[1]).toContain('policy="blocking"');
  expect(events[2]).toContain(`boundary=2 policy="blocking" recomputedPositions=${UPGRADE_AT} `);
});

test("eval says what is wrong with its flags, and how they go, before it loads anything", async () => {
  const { status, output, errors } = await evaluate("--stage", "B", "--upgrade", "B@3", "--out", join(folder, "none"));
  expect({ status, output }).toEqual({ status: 2, output: "" });
  expect(errors).toContain("crescendo: --stage stays at one stage");
  expect(errors).toContain("--upgrade S@N[,T@M…]");
});
