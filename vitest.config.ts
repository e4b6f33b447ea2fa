// Ways to run tests: `unit` in Node, `gpu` in Chromium (the suite that counts), `dawn` the same files in Node for quick development; `wgpu` runs what is
// built in Firefox and Deno, where they are there.
import { randomInt } from "node:crypto";
import { availableParallelism } from "node:os";
import { playwright } from "@vitest/browser-playwright";
import { defineConfig } from "vitest/config";
import { adapterKind, chromiumLaunchOptions } from "./tests/support/chromium.ts";
import { ErrorReport } from "./tests/support/error-report.ts";
import { OutcomeList } from "./tests/support/outcome-list.ts";
import { SHARED_TAG } from "./tests/support/shared-tag.ts";
import { testFileServer } from "./tests/support/test-file-server.ts";

const ENGINE_TESTS = ["tests/engine/**/*.test.ts"];
const KERNEL_TESTS = ["tests/kernels/**/*.test.ts", "tests/support/**/*.test.ts"];
const GPU_TESTS = [...KERNEL_TESTS, ...ENGINE_TESTS];
// With some of the engine's, which share few kernels with its others: each browser then has about half of the work.
const SECOND_HALF = [...KERNEL_TESTS, "tests/engine/upgrade*.test.ts", "tests/engine/self-test.test.ts"];
// SwiftShader on two cores takes seconds for what a GPU does in milliseconds.
const GPU_TIMEOUTS = { testTimeout: 120_000, hookTimeout: 120_000 };

// Where `npm test` reads what became of each test.
const results = process.env.CRESCENDO_RESULTS;

const longSuite = Boolean(process.env.CRESCENDO_LONG);
const FIXED_SEED = 20_250_701;
// CRESCENDO_SEED draws again what a run of the long suite drew.
const propertySeed = Number(process.env.CRESCENDO_SEED ?? (longSuite ? randomInt(2 ** 31) : FIXED_SEED));
if (propertySeed !== FIXED_SEED) console.log(`Property tests draw from CRESCENDO_SEED=${propertySeed}.`);

export default defineConfig({
  test: {
    reporters: ["default", new ErrorReport(), ...(results ? [new OutcomeList(results)] : [])],
    allowOnly: !process.env.CI,
    // See tests/support/long-test.ts and tests/support/property-seed.ts.
    provide: { longSuite, propertySeed },
    // See tests/support/needed-files.ts.
    tags: [{ name: SHARED_TAG, description: "reads ../shared, which is not part of a clone" }],
    projects: [
      // Vitest would leave a core out: of two that is half.
      {
        test: {
          name: "unit",
          include: ["tests/unit/**/*.test.ts"],
          environment: "node",
          // A limit for what never comes, not a measure: the machine may be busy.
          testTimeout: 30_000,
          maxWorkers: availableParallelism(),
          setupFiles: ["tests/support/property-seed.ts"],
        },
      },
      {
        plugins: [testFileServer(import.meta.dirname)],
        // Found while the tests run, they would make Vite reload the page under them.
        optimizeDeps: { include: ["@huggingface/jinja", "@huggingface/tokenizers", "fast-check"] },
        test: {
          name: "gpu",
          include: GPU_TESTS,
          ...GPU_TIMEOUTS,
          fileParallelism: false,
          // One page for all files, so that each kernel is compiled once: half of the suite's time went into compiling the same ones again.
          isolate: false,
          setupFiles: ["tests/support/gpu-setup.ts"],
          browser: {
            enabled: true,
            headless: true,
            screenshotFailures: false,
            provider: playwright({ launchOptions: chromiumLaunchOptions(adapterKind()) }),
            // SwiftShader compiles a browser's kernels one after the other, on one core: a second browser has the other one.
            instances: [
              { browser: "chromium", name: "gpu engine", include: ENGINE_TESTS, exclude: SECOND_HALF },
              { browser: "chromium", name: "gpu kernels", include: SECOND_HALF },
            ],
          },
        },
      },
      {
        test: {
          name: "dawn",
          include: GPU_TESTS,
          ...GPU_TIMEOUTS,
          fileParallelism: false,
          environment: "node",
          pool: "forks",
          setupFiles: ["tests/support/dawn-setup.ts", "tests/support/gpu-setup.ts"],
        },
      },
      { test: { name: "wgpu", include: ["tests/wgpu/**/*.test.ts"], ...GPU_TIMEOUTS, fileParallelism: false, environment: "node" } },
    ],
  },
});
