// Models of the visitor's own choice: of a hub by name, of files chosen or dropped; and what the page does when they fail.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type BrowserContext, expect, type Page, test } from "@playwright/test";
import { type HubServer, startHub } from "../support/hub-server";
import { DemoPage, fitsItsWidth, hasEnded, SLOW_MS } from "./demo-page";
import { stagedRepository } from "./staged-repository";
import { tinyRepository } from "./tiny-repository";

test.describe.configure({ mode: "parallel", timeout: 2 * SLOW_MS });

const WEIGHTS = /model\.safetensors/;

let hub: HubServer;
test.beforeAll(async () => {
  hub = await startHub();
  for (const { name, buffer } of tinyRepository()) hub.put(`somebody/tiny/${name}`, buffer);
});
test.afterAll(() => hub.close());

/** Opens the page on a model of the local hub. Temperature 1: the tiny model says the same for ever otherwise. */
async function visit(page: Page, model: string, parameters: Readonly<Record<string, string>> = {}): Promise<DemoPage> {
  const demo = new DemoPage(page);
  await demo.keepSettings({ temperature: 1, maxTokens: 12 });
  await demo.open(`?${new URLSearchParams({ hub: hub.url, model, ...parameters })}`);
  return demo;
}

const openModels = (page: Page) => page.getByRole("button", { name: /^Model:/ }).click();

/** A page whose graphics device goes with the event "lose-device"; after "no-other-device" there is none. */
async function letDevicesGo(page: Page): Promise<void> {
  await page.addInitScript(() => {
    const { requestDevice } = GPUAdapter.prototype;
    const { requestAdapter } = GPU.prototype;
    GPUAdapter.prototype.requestDevice = async function (...options) {
      const device = await requestDevice.apply(this, options);
      addEventListener("lose-device", () => device.destroy());
      return device;
    };
    addEventListener("no-other-device", () => {
      GPU.prototype.requestAdapter = () => Promise.resolve(null);
    });
    addEventListener("devices-again", () => {
      GPU.prototype.requestAdapter = requestAdapter;
    });
  });
}

const dispatch = (page: Page, event: string) => page.evaluate((type) => dispatchEvent(new Event(type)), event);

test.describe("a visit to a repository of a hub", () => {
  // One page for all, as each load compiles every shader anew: each step goes on from the one before.
  test.describe.configure({ mode: "serial" });
  let context: BrowserContext;
  let demo: DemoPage;
  let page: Page;

  test.beforeAll(async ({ browser }) => {
    context = await browser.newContext();
    page = await context.newPage();
    await letDevicesGo(page);
    demo = await visit(page, "somebody/nothing");
  });
  test.afterAll(() => context.close());

  const newChat = () => page.getByRole("button", { name: "New chat" }).click();

  async function changeSettings({ maxTokens, system }: { readonly maxTokens: string; readonly system: string }): Promise<void> {
    await page.getByRole("button", { name: "Settings" }).click();
    await page.getByLabel("Maximum tokens of an answer").fill(maxTokens);
    await page.getByLabel("System prompt").fill(system);
    await page.getByRole("button", { name: "Close" }).click();
  }

  test("a name that no hub knows, and a file that is no model, are refused in words, and the page goes on", async () => {
    await expect(demo.error).toContainText("somebody/nothing", { timeout: SLOW_MS });
    await openModels(page);
    await page.getByLabel("Choose files").setInputFiles({ name: "broken.gguf", mimeType: "", buffer: Buffer.from("GGUF and no more") });
    await expect(demo.error).toContainText("broken.gguf", { timeout: SLOW_MS });
    await page.getByRole("button", { name: "Choose another model" }).click();
    await page.getByLabel("Repository").fill("somebody/none");
    await page.getByLabel("Repository").press("Enter");
    await expect(demo.error).toContainText("somebody/none", { timeout: SLOW_MS });
  });

  test("a hub's repository loads by its name from the dialog, and answers", async () => {
    await openModels(page);
    await page.getByLabel("Repository").fill("somebody/tiny");
    await page.getByRole("button", { name: "Load", exact: true }).click();
    await demo.isReady();
    await expect(page).toHaveURL(/model=somebody%2Ftiny/);
    const answer = await demo.askAndWait("Hello");
    await expect(answer).toContainText("Cut: the maximum of 12 tokens is reached");
    await expect(answer).toContainText("12 tokens");
    await expect(page.locator("#intro-facts")).toContainText(/^Loaded \d+ kB in \d/);
  });

  test("a second turn computes only what is new", async () => {
    await demo.askAndWait("Hello");
    await expect(await demo.askAndWait("And you?")).toContainText(/prompt of \d+ new and \d+ kept/);
  });

  test("an answer that is stopped stays as far as it came, and the next one goes on from it", async () => {
    await changeSettings({ maxTokens: "400", system: "" });
    const stopped = await demo.ask("Hello");
    await expect(stopped.locator("p").first()).toContainText(/\S/, { timeout: SLOW_MS });
    await page.keyboard.press("Escape");
    await hasEnded(stopped);
    await expect(stopped).toContainText("Stopped.");
    await changeSettings({ maxTokens: "12", system: "" });
    await expect(await demo.askAndWait("Hello")).toContainText(/12 tokens.*tokens\/s.*prompt of \d+ new and \d+ kept/s);
  });

  test("on a phone nothing is wider than the screen", async () => {
    await page.setViewportSize({ width: 360, height: 740 });
    await fitsItsWidth(page);
    for (const dialog of ["Choose a model", "Settings"]) {
      await page.getByRole("button", { name: dialog === "Settings" ? "Settings" : /^Model:/ }).click();
      await expect(page.getByRole("dialog", { name: dialog })).toBeVisible();
      await fitsItsWidth(page);
      await page.keyboard.press("Escape");
    }
    await page.setViewportSize({ width: 1280, height: 720 });
  });

  test("a new chat begins empty", async () => {
    await newChat();
    await expect(demo.answers).toHaveCount(0);
    await expect(page.getByRole("button", { name: "Why is the sky blue?" })).toBeVisible();
  });

  test("settings hold for the next answer and for the next visit, which takes the model from the cache, without network", async () => {
    await changeSettings({ maxTokens: "3", system: "Be brief." });
    const answer = await demo.askAndWait("Hello");
    await expect(answer).toContainText("the maximum of 3 tokens");
    await expect(answer).toContainText("prompt of 32"); // 17 without the system prompt
    await page.route(WEIGHTS, (route) => route.abort());
    await page.reload();
    await expect(page).toHaveURL(/model=somebody%2Ftiny/);
    await demo.isReady();
    await expect(page.locator("#intro-facts")).toContainText(/^Loaded \d+ kB from this browser’s cache in \d/);
    await page.unroute(WEIGHTS);
    await page.getByRole("button", { name: "Settings" }).click();
    await expect(page.getByLabel("Maximum tokens of an answer")).toHaveValue("3");
    await expect(page.getByLabel("System prompt")).toHaveValue("Be brief.");
    await page.getByRole("button", { name: "Close" }).click();
  });

  test("a conversation that fills the context is told so", async () => {
    await demo.isReady();
    const answer = await demo.askAndWait("? ".repeat(300));
    await expect(answer).toContainText("The context is full: begin a new chat.");
  });

  test("the reader who scrolls up is left in peace while an answer grows", async () => {
    await page.setViewportSize({ width: 600, height: 360 });
    await newChat();
    await changeSettings({ maxTokens: "400", system: "" });
    const answer = await demo.ask("line\n".repeat(20));
    const fromEnd = () => page.getByRole("main").evaluate((main) => main.scrollHeight - main.clientHeight - main.scrollTop);
    await expect(answer.locator("p").first()).toContainText(/\S{8}/, { timeout: SLOW_MS });
    await expect.poll(fromEnd).toBeLessThan(2); // the page follows once a frame
    await page.getByRole("main").hover();
    await page.mouse.wheel(0, -300);
    await expect.poll(fromEnd).toBeGreaterThan(200);
    const length = async () => (await answer.textContent())?.length ?? 0;
    const said = await length();
    await expect.poll(length, { timeout: SLOW_MS }).toBeGreaterThan(said + 20);
    expect(await fromEnd()).toBeGreaterThan(200);
    await page.getByRole("button", { name: "Latest" }).click();
    await expect.poll(fromEnd).toBeLessThan(2);
    await demo.stop.click();
    await hasEnded(answer);
    await changeSettings({ maxTokens: "12", system: "" });
    await page.setViewportSize({ width: 1280, height: 720 });
  });

  test("a lost graphics device is replaced while the conversation goes on, and the page says where that was", async () => {
    await newChat();
    await expect(await demo.askAndWait("Hello")).toContainText("prompt of 17");
    await dispatch(page, "lose-device");
    await expect(page.getByRole("log")).toContainText(/The graphics device was lost here, and the model put onto another in [\d.]+ s\./, {
      timeout: SLOW_MS,
    });
    await expect(await demo.askAndWait("Hello")).toContainText("12 tokens");
    await expect(demo.error).toBeHidden();
  });

  test("a graphics device that is lost for good is told of, and the conversation goes on when the model is loaded again", async () => {
    await newChat();
    await expect(await demo.askAndWait("Hello")).toContainText("prompt of 17");
    await dispatch(page, "no-other-device");
    await dispatch(page, "lose-device");
    await expect(page.getByRole("status").filter({ hasText: "The graphics device was lost." })).toBeVisible();
    await expect(demo.error).toContainText("The graphics device was lost, and there is no other.", { timeout: SLOW_MS });
    await dispatch(page, "devices-again");
    await page.getByRole("button", { name: "Try again" }).click();
    await demo.isReady();
    await expect(demo.questions).toHaveText("Hello");
    const next = await demo.askAndWait("Hello");
    // Each question takes 17 tokens and a line break one. The rest is the answer between them, of a length that chance decides.
    const promptTokens = Number(/prompt of (\d+)/.exec((await next.textContent()) ?? "")?.[1]);
    expect(promptTokens).toBeGreaterThan(17 + 1 + 17);
  });

  test("a model that is deleted from the cache comes from the network again, and without one there is a reason and a way out", async () => {
    await openModels(page);
    await page.getByRole("button", { name: "Delete somebody/tiny" }).click();
    await expect(page.getByText("Nothing yet.")).toBeVisible();
    await page.route(WEIGHTS, (route) => route.abort());
    await page.reload();
    await expect(demo.error).toContainText("model.safetensors", { timeout: SLOW_MS });
    await page.unroute(WEIGHTS);
    hub.faults = { stall: { afterBytes: 200_000 } };
    await page.getByRole("button", { name: "Try again" }).click();
    await expect(page.getByText("Downloading somebody/tiny")).toBeVisible({ timeout: SLOW_MS });
    await page.getByRole("button", { name: "Cancel" }).click();
    await expect(demo.error).toContainText("Loading was cancelled.");
    hub.faults = {};
  });
});

test("files chosen one by one load, and a model without a chat template continues the text", async ({ page }) => {
  const demo = await visit(page, "somebody/nothing");
  await openModels(page);
  await page.getByLabel("Choose files").setInputFiles(tinyRepository({ hasTemplate: false }));
  await demo.isReady();
  await expect(page.getByText("without a chat template: it continues your text")).toBeVisible();
  await expect(page).not.toHaveURL(/model=/);
  await expect(await demo.askAndWait("abc")).toContainText("12 tokens");
});

test("a folder dropped on the page loads; with ?plan=whole all of it comes first, and there are no stages to tell apart", async ({
  page,
}, testInfo) => {
  const folder = testInfo.outputPath("staged");
  mkdirSync(folder);
  const { files, stageBytes } = stagedRepository();
  for (const { name, buffer } of files) writeFileSync(join(folder, name), buffer);
  const demo = await visit(page, "somebody/nothing", { plan: "whole" });
  await expect(demo.error).toBeVisible({ timeout: SLOW_MS });
  const headlines = await recordHeadlines(page);
  await drop(page, [folder]);
  const strip = page.getByRole("region", { name: "Stages of the model" });
  const megabytes = stageBytes.reduce((sum, bytes) => sum + bytes, 0) / 1e6;
  await demo.isReady();
  expect(await headlines()).toContain(`The whole model comes at once: ${megabytes.toFixed(1)} MB`);
  await expect(strip).toContainText(/The whole model is here\s*answering since [\d.]+ s/);
  await expect(strip).not.toContainText("would have begun");
  await expect(page.getByRole("button", { name: "Stages", exact: true })).toBeHidden();
  const answer = await demo.askAndWait("Hello");
  await expect(answer).toContainText("12 tokens");
  await expect(answer).not.toContainText("by stage");
});

/** Gives all that the stages' headline has said: a model that lies on this machine may be there before a test looks. */
async function recordHeadlines(page: Page): Promise<() => Promise<string>> {
  const headlines = await page.evaluateHandle(() => {
    const said: (string | null)[] = [];
    const headline = document.getElementById("stage-headline");
    if (headline) new MutationObserver(() => said.push(headline.textContent)).observe(headline, { childList: true });
    return said;
  });
  return () => headlines.evaluate((said) => said.join("\n"));
}

/** As the system's file manager drops: script can make no drop that carries a folder. */
async function drop(page: Page, files: string[]): Promise<void> {
  const devtools = await page.context().newCDPSession(page);
  const data = { items: [], files, dragOperationsMask: 1 };
  for (const type of ["dragEnter", "dragOver", "drop"] as const)
    await devtools.send("Input.dispatchDragEvent", { type, x: 200, y: 200, data });
}
