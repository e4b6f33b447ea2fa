// The model that grows while it answers, on a link that the page itself slows down.
import { type BrowserContext, expect, type Page, test } from "@playwright/test";
import { DemoPage, fitsItsWidth, SLOW_MS } from "./demo-page";

const WEIGHTS = "**/*.gguf";
const TOTAL_MB = 39.4;
const FIRST_STAGE_MB = 19.5;
const KEPT = { temperature: 0, maxTokens: 6 }; // two tokens a second where there is no graphics card

test.describe.configure({ timeout: 2 * SLOW_MS });

const strip = (page: Page) => page.getByRole("region", { name: "Stages of the model" });

async function arrivedMegabytes(page: Page): Promise<number> {
  const [, arrived] = /([\d.]+) MB of 39\.4 MB/.exec((await strip(page).textContent()) ?? "") ?? [];
  return Number(arrived);
}

test.describe("a visit on a link of 8 Mbit/s", () => {
  // One page for all: each step goes on from the one before.
  test.describe.configure({ mode: "serial" });
  let context: BrowserContext;
  let demo: DemoPage;
  let page: Page;

  test.beforeAll(async ({ browser }) => {
    context = await browser.newContext();
    page = await context.newPage();
    demo = new DemoPage(page);
    await demo.keepSettings(KEPT);
  });
  test.afterAll(() => context.close());

  test("the first stage answers before all bytes are down, and says what it lacks and what it is worth", async () => {
    await demo.open("?link=8");
    await expect(strip(page)).toContainText("Stage A comes first with 6 of 16 layers, 19.5 MB.", { timeout: SLOW_MS });
    await expect(page.getByText(/\d MB of 19\.5 MB until it answers · 1\.\d MB\/s · about/)).toBeVisible({ timeout: SLOW_MS });
    await demo.isReady();
    await expect(strip(page)).toContainText("Stage A answers with 6 of 16 layers: first choice as the whole model’s in 84 of 100 tokens");
    await expect(strip(page)).toContainText("measured on 192 held-out chats");
    await expect(page.getByText(/^Answers after 19\.5 MB of 39\.4 MB, in \d/)).toBeVisible();
    expect(await arrivedMegabytes(page)).toBeLessThan(TOTAL_MB - 5);
  });

  test("a pause holds the bytes, and the first stage goes on answering", async () => {
    await page.getByRole("button", { name: "Pause the download of later stages" }).click();
    await expect(strip(page)).toContainText("paused");
    await page.waitForTimeout(3000); // what is under way comes to its end
    const asked: string[] = [];
    page.on("request", (request) => asked.push(request.url()));
    const before = await arrivedMegabytes(page);
    expect(before).toBeGreaterThanOrEqual(FIRST_STAGE_MB);
    const answer = await demo.askAndWait("What is the capital of France?");
    await expect(answer).toContainText(/\w+.*6 tokens.* · by stage A/s);
    expect(await arrivedMegabytes(page)).toBe(before);
    expect(asked).toEqual([]);
  });

  test("on a phone the bar and the notes are no wider than the screen", async () => {
    await page.setViewportSize({ width: 360, height: 740 });
    await page.getByRole("button", { name: "Stages", exact: true }).click();
    await expect(page.getByRole("list", { name: "Stages" })).toContainText("Stage B: 10 of 16 layers, 8.0 MB more; first choice");
    await fitsItsWidth(page);
    await page.getByRole("button", { name: "Stages", exact: true }).click();
    await page.setViewportSize({ width: 1280, height: 720 });
  });

  test("it goes on when the visitor says so, until the whole model is here and one line is left", async () => {
    const paused = await arrivedMegabytes(page);
    await page.getByRole("button", { name: "Resume the download of later stages" }).click();
    await expect.poll(() => arrivedMegabytes(page), { timeout: 10_000 }).toBeGreaterThan(paused + 1);
    await expect(strip(page)).toContainText(/stage B in (about \d+ s|a moment)/);
    const bar = strip(page).getByRole("img", { name: /^Layers and vocabulary of the model: \d+ % have arrived/ });
    await expect(bar).toBeVisible();
    await expect(strip(page)).toContainText("The whole model is here", { timeout: SLOW_MS });
    await expect(bar).toBeHidden();
    const [, answering, whole] =
      /answering since (\d+) s; the whole model would have begun at (\d+) s/.exec((await strip(page).textContent()) ?? "") ?? [];
    expect(Number(whole) - Number(answering)).toBeGreaterThan(10); // 20 MB at 1 MB/s
    await expect(page.getByRole("button", { name: /Pause|Resume/ })).toBeHidden();
  });

  test("the chat goes on over the upgrades, and shows which stage said what", async () => {
    // C takes B's upgrade into its own where that is still under way: then the boundary is B's.
    await expect(page.getByRole("log")).toContainText(/Stage C took over here: all 16 layers, K\/V of (8|4) layers kept/);
    const next = await demo.askAndWait("Which country did I ask about?");
    await expect(next).toContainText(/prompt of \d+ new and \d+ kept · by stage C/);
    await expect(next.getByTitle("Said by stage C: all 16 layers")).toHaveCount(1);
    await expect(demo.answers.first().getByTitle("Said by stage A: 6 of 16 layers")).toHaveCount(1);
  });

  test("the speed of the link is a setting, which holds for the next load, past the cache", async () => {
    await page.getByRole("button", { name: "Settings" }).click();
    const speed = page.getByLabel("Speed of the link");
    await expect(speed).toHaveValue("8");
    await speed.selectOption("100 Mbit/s");
    await expect(page).toHaveURL(/link=100/);
    const requested = page.waitForRequest(WEIGHTS);
    await page.getByRole("button", { name: "Load the model again" }).click();
    await requested;
    await demo.isReady();
    await expect(demo.questions).toHaveText(["What is the capital of France?", "Which country did I ask about?"]);
    await expect(strip(page)).toContainText("The whole model is here", { timeout: SLOW_MS });
    await page.getByRole("button", { name: /^Model:/ }).click();
    await expect(page.getByText("Nothing yet.")).toBeVisible();
    await page.keyboard.press("Escape");
  });
});

test("a later stage that does not come is told of in one sentence, and comes when the visitor tries again", async ({ page }) => {
  const demo = new DemoPage(page);
  await demo.keepSettings(KEPT);
  await demo.open("?link=16");
  await demo.isReady();
  await page.route(WEIGHTS, (route) => route.abort());
  await expect(strip(page)).toContainText(/Stage [BC] could not be put in place\. Stage [AB] goes on answering\./, { timeout: SLOW_MS });
  await expect(await demo.askAndWait("What is the capital of France?")).toContainText(/6 tokens.* · by stage [AB]/);
  await page.unroute(WEIGHTS);
  await page.getByRole("button", { name: "Try again" }).click();
  await expect(strip(page).getByRole("status")).toBeHidden();
  await expect(strip(page)).toContainText("The whole model is here", { timeout: SLOW_MS });
  await expect(strip(page)).not.toContainText("would have begun"); // nobody knows, after that
});

test("with ?plan=whole all of the model comes first, and there are no stages to tell apart", async ({ page }) => {
  const demo = new DemoPage(page);
  await demo.keepSettings(KEPT);
  await demo.open("?plan=whole");
  await expect(strip(page)).toContainText("The whole model comes at once: 39.4 MB", { timeout: SLOW_MS });
  await demo.isReady();
  await expect(strip(page)).toContainText(/The whole model is here\s*answering since [\d.]+ s/);
  await expect(strip(page)).not.toContainText("would have begun");
  await expect(page.getByRole("button", { name: "Stages", exact: true })).toBeHidden();
  await expect(await demo.askAndWait("What is the capital of France?")).not.toContainText("by stage");
});
