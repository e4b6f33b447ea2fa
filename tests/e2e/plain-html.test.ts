// The built module, imported by a plain HTML page: no bundler, no other file of ours.
import { expect, test } from "@playwright/test";
import { SLOW_MS } from "./demo-page";

const FILE_BYTES = 39_886_784;

test.setTimeout(2 * SLOW_MS);

test("a plain page imports the one built file, loads the embedded model and gets an answer", async ({ page, baseURL }) => {
  const asked = new Set<string>();
  let weightBytes = 0;
  page.on("request", (request) => {
    const url = request.url().replace(baseURL ?? "", "");
    asked.add(url.replace(/^(blob|data):.*/, "$1:"));
    const [, start, end] = /^bytes=(\d+)-(\d+)$/.exec(request.headers().range ?? "") ?? [];
    if (url.endsWith(".gguf")) weightBytes += Number(end) + 1 - Number(start);
  });
  await page.goto("/tests/e2e/plain.html");
  await expect(page).toHaveTitle(/answered|failed/, { timeout: SLOW_MS });
  await expect(page.locator("output")).toHaveText("The capital of France is Paris.");
  const ours = [...asked].filter((url) => url.startsWith("/")).sort();
  const folder = "/public/models/smollm2-crescendo-64m";
  const model = [`${folder}/progressive.json`, `${folder}/smollm2-crescendo-64m-q4_0.gguf`];
  expect(ours).toEqual(["/dist/crescendo.js", ...model, "/tests/e2e/plain.html"]);
  expect(weightBytes).toBeGreaterThanOrEqual(FILE_BYTES);
  expect(weightBytes).toBeLessThanOrEqual(1.01 * FILE_BYTES);
});
