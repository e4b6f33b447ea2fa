// A visitor's first minutes on the demo page, with the model that comes with it.
import { type BrowserContext, expect, test } from "@playwright/test";
import { DemoPage, fitsItsWidth, hasEnded, limitLink, SLOW_MS } from "./demo-page";

// One page for all: each step goes on from the one before, as a visitor does.
test.describe.configure({ mode: "serial", timeout: 2 * SLOW_MS });

const WEIGHTS = "**/*.gguf";
let context: BrowserContext;
let demo: DemoPage;

test.beforeAll(async ({ browser }) => {
  context = await browser.newContext();
  demo = new DemoPage(await context.newPage());
  await demo.keepSettings({ temperature: 0, maxTokens: 24 });
});
test.afterAll(() => context.close());

test("the embedded model loads, and the page says how that goes", async () => {
  const { page } = demo;
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
});

test("a question gets a sensible answer, with its figures", async () => {
  const answer = await demo.askAndWait("What is the capital of France?");
  await expect(answer).toContainText("The capital of France is Paris.");
  await expect(answer).toContainText(/\d+ tokens · [\d.]+ tokens\/s · first after [\d.]+ s · prompt of \d+/);
});

test("a second turn uses the first, and computes only what is new", async () => {
  const answer = await demo.askAndWait("Which country did I ask about?");
  await expect(answer).toContainText("France");
  await expect(answer).toContainText(/prompt of \d+ new and \d+ kept/);
});

test("an answer that is stopped stays as far as it came, and the next one goes on from it", async () => {
  const stopped = await demo.ask("Explain gravity to a child.");
  await expect(stopped.locator("p").first()).toContainText(/\w/, { timeout: SLOW_MS });
  await demo.page.keyboard.press("Escape");
  await hasEnded(stopped);
  await expect(stopped).toContainText("Stopped.");
  const next = await demo.askAndWait("What is 5 plus 7?");
  await expect(next).toContainText(/\w+.*tokens\/s.*prompt of \d+ new and \d+ kept/s);
});

test("on a phone nothing is wider than the screen", async () => {
  const { page } = demo;
  await page.setViewportSize({ width: 360, height: 740 });
  await fitsItsWidth(page);
  for (const dialog of ["Choose a model", "Settings"]) {
    await page.getByRole("button", { name: dialog === "Settings" ? "Settings" : /^Model:/ }).click();
    await expect(page.getByRole("dialog", { name: dialog })).toBeVisible();
    await fitsItsWidth(page);
    await page.keyboard.press("Escape");
  }
});

test("a new chat begins empty", async () => {
  await demo.page.getByRole("button", { name: "New chat" }).click();
  await expect(demo.answers).toHaveCount(0);
  await expect(demo.page.getByRole("button", { name: "Why is the sky blue?" })).toBeVisible();
});

test("a reload takes the model from the browser's cache, without network", async () => {
  const { page } = demo;
  await page.route(WEIGHTS, (route) => route.abort());
  await page.reload();
  await demo.isReady();
  await expect(page.getByText(/^Loaded 39\.4 MB from this browser’s cache in \d/)).toBeVisible({ timeout: SLOW_MS });
});

test("a model that is deleted from the cache comes from the network again, and without one there is a reason and a way out", async () => {
  const { page } = demo;
  await page.getByRole("button", { name: /^Model:/ }).click();
  await page.getByRole("button", { name: "Delete SmolLM2 Crescendo 64M" }).click();
  await expect(page.getByText("Nothing yet.")).toBeVisible();
  await page.reload();
  await expect(demo.error).toContainText("smollm2-crescendo-64m-q4_0.gguf", { timeout: SLOW_MS });
  await page.unroute(WEIGHTS);
  await page.getByRole("button", { name: "Try again" }).click();
  await expect(page.getByText("Downloading SmolLM2 Crescendo 64M")).toBeVisible({ timeout: SLOW_MS });
  await page.getByRole("button", { name: "Cancel" }).click();
  await expect(demo.error).toContainText("Loading was cancelled.");
});
