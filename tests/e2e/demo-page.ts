// The demo page as a visitor meets it: by its labels and texts.
import { expect, type Locator, type Page } from "@playwright/test";

/** Loading compiles every shader and answering runs on the processor where there is no graphics card. */
export const SLOW_MS = 240_000;

export class DemoPage {
  readonly page: Page;
  readonly message: Locator;
  readonly answers: Locator;
  readonly questions: Locator;
  readonly error: Locator;
  readonly stop: Locator;

  constructor(page: Page) {
    this.page = page;
    this.message = page.getByLabel("Your message");
    this.answers = page.getByRole("article", { name: "Answer" });
    this.questions = page.getByRole("article", { name: "You" });
    this.error = page.getByRole("alert");
    this.stop = page.getByRole("button", { name: "Stop" });
  }

  /** Settings as an earlier visit would have left them; what this one changes stays. */
  async keepSettings(settings: { readonly temperature?: number; readonly maxTokens?: number; readonly system?: string }): Promise<void> {
    await this.page.addInitScript((json) => {
      localStorage["crescendo-settings"] ??= json;
    }, JSON.stringify(settings));
  }

  async open(query = ""): Promise<void> {
    await this.page.goto(`/dist-demo/${query}`);
  }

  async isReady(): Promise<void> {
    await expect(this.page.getByPlaceholder("Write a message")).toBeVisible({ timeout: SLOW_MS });
  }

  /** Asks, and returns the answer, which is still to come. */
  async ask(text: string): Promise<Locator> {
    const answer = this.answers.nth(await this.answers.count());
    await this.message.fill(text);
    await this.message.press("Enter");
    await expect(answer).toBeVisible();
    return answer;
  }

  /** Asks, and returns the answer when it has ended. */
  async askAndWait(text: string): Promise<Locator> {
    const answer = await this.ask(text);
    await hasEnded(answer);
    return answer;
  }
}

export async function hasEnded(answer: Locator): Promise<void> {
  await expect(answer).toHaveAttribute("aria-busy", "false", { timeout: SLOW_MS });
}

/** Fails when the page, or the part of it that scrolls, is wider than the window. */
export async function fitsItsWidth(page: Page): Promise<void> {
  const overflow = await page.evaluate(() =>
    [document.documentElement, ...document.querySelectorAll("main, dialog[open]")].map((part) => part.scrollWidth - part.clientWidth),
  );
  expect(Math.max(...overflow)).toBe(0);
}

/** The browser's own slow link, in bytes a second: unlike the page's, it leaves the cache alone. */
export async function limitLink(page: Page, bytesPerSecond: number): Promise<void> {
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("Network.enable");
  const limits = { offline: false, latency: 0, downloadThroughput: bytesPerSecond, uploadThroughput: -1 };
  await devtools.send("Network.emulateNetworkConditions", limits);
}
