// The built module, imported by a plain HTML page: no bundler, no other file of ours.
import { expect, test } from "@playwright/test";
import { SLOW_MS } from "./demo-page";

test.setTimeout(2 * SLOW_MS);

test("a plain page imports the one built file, loads the embedded model and gets an answer", async ({ page, baseURL }) => {
  const asked = new Set<string>();
  page.on("request", (request) =>
    asked.add(
      request
        .url()
        .replace(baseURL ?? "", "")
        .replace(/^(blob|data):.*/, "$1:"),
    ),
  );
  await page.goto("/tests/e2e/plain.html");
  await expect(page).toHaveTitle(/answered|failed/, { timeout: SLOW_MS });
  await expect(page.locator("output")).toHaveText("The capital of France is Paris.");
  const ours = [...asked].filter((url) => url.startsWith("/")).sort();
  const folder = "/public/models/smollm2-crescendo-64m";
  const model = [`${folder}/progressive.json`, `${folder}/smollm2-crescendo-64m-q4_0.gguf`];
  expect(ours).toEqual(["/dist/crescendo.js", ...model, "/tests/e2e/plain.html"]);
});
