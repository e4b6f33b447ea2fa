// Tests of the built page and the built module, in Chromium. `npm run test:e2e` builds both first.
import { createServer } from "node:net";
import { defineConfig, type ReporterDescription } from "@playwright/test";
import { chromiumLaunchOptions } from "./tests/support/chromium";

// A free one, so that two runs on one machine do not meet. Playwright's workers read this file too, and have it from the first to do so.
process.env.CRESCENDO_E2E_PORT ??= String(await freePort());
const PORT = Number(process.env.CRESCENDO_E2E_PORT);
const results = process.env.CRESCENDO_RESULTS;
const reporter: ReporterDescription[] = [["list"]];
if (results) reporter.push(["json", { outputFile: results }]);

export default defineConfig({
  testDir: "tests/e2e",
  testMatch: "**/*.test.ts",
  // SwiftShader compiles a browser's kernels on one core, and tests of slow links wait: a second browser has what is left. Where both compute,
  // each is two to four times slower.
  workers: 2,
  timeout: 120_000,
  // A limit for what never comes, not a measure: the machine may be busy.
  expect: { timeout: 30_000 },
  forbidOnly: Boolean(process.env.CI),
  reporter,
  use: { baseURL: `http://127.0.0.1:${PORT}`, launchOptions: chromiumLaunchOptions(), trace: "retain-on-failure" },
  projects: [{ name: "chromium", use: { browserName: "chromium" } }],
  webServer: { command: "node tools/run.mjs tests/e2e/server.ts", port: PORT, env: { PORT: String(PORT) } },
});

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });
}
