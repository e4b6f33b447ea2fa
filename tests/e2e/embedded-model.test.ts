// A visitor's first minute on the demo page, with the model that comes with it. What does not hang on what a model says is tested on a tiny one.
import { expect, test } from "@playwright/test";
import { DemoPage, limitLink, SLOW_MS } from "./demo-page";

test.setTimeout(2 * SLOW_MS);

test("the embedded model loads, says how that goes, and gives sensible answers", async ({ page }) => {
  const demo = new DemoPage(page);
  await demo.keepSettings({ temperature: 0, maxTokens: 24 });
  await limitLink(page, 4_000_000); // else the first stage is here before anyone can read how that goes
  await demo.open();
  await expect(page.getByText("Downloading SmolLM2 Crescendo 64M")).toBeVisible({ timeout: SLOW_MS });
  await expect(page.getByText(/\d MB of 19\.5 MB until it answers · \d+(\.\d)? MB\/s · (about|a moment)/)).toBeVisible({
    timeout: SLOW_MS,
  });
  await demo.isReady();
  await expect(page.getByText(/^Loaded 39\.4 MB in \d/)).toBeVisible({ timeout: SLOW_MS }); // all stages
  await expect(page.getByText("A very small model: fluent, often wrong. Runs on ")).toBeVisible();
  await expect(page.getByRole("progressbar")).toBeHidden();

  const first = await demo.askAndWait("What is the capital of France?");
  await expect(first).toContainText("The capital of France is Paris.");
  await expect(first).toContainText(/\d+ tokens · [\d.]+ tokens\/s · first after [\d.]+ s · prompt of \d+/);

  const second = await demo.askAndWait("Which country did I ask about?");
  await expect(second).toContainText("France");
  await expect(second).toContainText(/prompt of \d+ new and \d+ kept/);
});
