// Deno, whose WebGPU is wgpu: the reference's logits.
import { spawn, spawnSync } from "node:child_process";
import { afterAll, beforeAll, describe, test } from "vitest";
import { expectGoldenRun, type GoldenRun, readGoldenCase, softwareDriver } from "./golden-case";
import { type ServedRepository, serveRepository } from "./served-repository";

const executable = process.env.DENO ?? "deno";
const hasDeno = spawnSync(executable, ["--version"]).status === 0;
const REASON = hasDeno ? "" : " (skipped: there is no Deno; npm install --no-save deno, or set DENO to one)";

describe.skipIf(!hasDeno)(`Deno${REASON}`, () => {
  let repository: ServedRepository;

  beforeAll(async () => {
    repository = await serveRepository();
  });

  afterAll(() => repository?.close());

  test("the logits and greedy ids of llama-gqa are the reference's", async () => {
    const golden = await readGoldenCase();
    const args = JSON.stringify([repository.origin, golden.ids, golden.greedy.length]);
    const code = `
      const { runGolden } = await import("${repository.origin}/tests/wgpu/golden-run.js");
      console.log(JSON.stringify(await runGolden(...${args})));
      Deno.exit(0);`;
    expectGoldenRun(JSON.parse(await runDeno(code)) as GoldenRun, golden);
  });
});

/** What the module prints. It comes by standard input: `deno eval` takes no permissions. */
function runDeno(code: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const deno = spawn(executable, ["run", "--unstable-webgpu", "--allow-all", "--no-config", "-"], {
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...process.env, ...softwareDriver() },
    });
    let printed = "";
    let complaints = "";
    deno.stdout.on("data", (bytes) => {
      printed += bytes;
    });
    deno.stderr.on("data", (bytes) => {
      complaints += bytes;
    });
    deno.on("error", reject);
    deno.on("close", (status) => (status === 0 ? resolve(printed) : reject(new Error(`Deno ended with ${status}: ${complaints}`))));
    deno.stdin.end(code);
  });
}
