// The model that grows while it answers, on a link that the page itself slows down.
import { type BrowserContext, expect, type Page, test } from "@playwright/test";
import type * as Crescendo from "../../src/index";
import { type HubServer, startHub } from "../support/hub-server";
import { DemoPage, fitsItsWidth, SLOW_MS } from "./demo-page";
import { stagedRepository } from "./staged-repository";

const MODEL = "somebody/staged";
const WEIGHTS = /model\.safetensors/;
const KEPT = { temperature: 0, maxTokens: 3 };

const { files, stageBytes, stageEnds } = stagedRepository();
const [FIRST_BYTES = 0, SECOND_BYTES = 0] = stageBytes;
const TOTAL_BYTES = stageBytes.reduce((sum, bytes) => sum + bytes, 0);
const READ_PAST_BYTES = 16 << 10; // the cache widens a read to multiples of it
const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;
const escaped = (text: string) => text.replaceAll(".", "\\.");

test.describe.configure({ mode: "parallel", timeout: 2 * SLOW_MS });

let hub: HubServer;
test.beforeAll(async () => {
  hub = await startHub();
  for (const { name, buffer } of files) hub.put(`${MODEL}/${name}`, buffer);
});
test.afterAll(() => hub.close());

/** Lets nothing of the stages after `stage` through but their first bytes. @returns what lets them through */
function holdAfter(stage: number): () => void {
  let release: () => void = () => undefined;
  const until = new Promise<void>((resolve) => {
    release = resolve;
  });
  hub.faults = { hold: { fromByte: (stageEnds[stage] ?? TOTAL_BYTES) + READ_PAST_BYTES, until } };
  const { faults } = hub;
  return () => {
    if (hub.faults === faults) hub.faults = {};
    release();
  };
}

function open(demo: DemoPage, parameters: Readonly<Record<string, string>> = {}): Promise<void> {
  return demo.open(`?${new URLSearchParams({ hub: hub.url, model: MODEL, ...parameters })}`);
}

/** What was asked for before a pause comes to its end: no byte in a second, at half a megabyte each. */
async function underWayHasEnded(page: Page): Promise<void> {
  await expect(async () => {
    const before = await arrivedMegabytes(page);
    await page.waitForTimeout(1000);
    expect(await arrivedMegabytes(page)).toBe(before);
  }).toPass({ timeout: SLOW_MS });
}

const strip = (page: Page) => page.getByRole("region", { name: "Stages of the model" });

async function arrivedMegabytes(page: Page): Promise<number> {
  const pattern = new RegExp(`([\\d.]+) MB of ${escaped(megabytes(TOTAL_BYTES))}`);
  const [, arrived] = pattern.exec((await strip(page).textContent()) ?? "") ?? [];
  return Number(arrived);
}

test.describe("a visit on a link of 4 Mbit/s", () => {
  // One page for all: each step goes on from the one before.
  test.describe.configure({ mode: "serial" });
  let context: BrowserContext;
  let demo: DemoPage;
  let page: Page;
  let release: () => void;

  test.beforeAll(async ({ browser }) => {
    context = await browser.newContext();
    page = await context.newPage();
    demo = new DemoPage(page);
    await demo.keepSettings(KEPT);
  });
  test.afterAll(() => context.close());

  test("the first stage answers before all bytes are down, and says what it lacks and what it is worth", async () => {
    release = holdAfter(0);
    await open(demo, { link: "4" });
    const first = megabytes(FIRST_BYTES);
    await expect(strip(page)).toContainText(`Stage A comes first with 3 of 6 layers, ${first}.`, { timeout: SLOW_MS });
    const arriving = new RegExp(`\\d MB of ${escaped(first)} until it answers · 0\\.\\d MB/s · about`);
    await expect(page.getByText(arriving)).toBeVisible({ timeout: SLOW_MS });
    await demo.isReady();
    await expect(strip(page)).toContainText("Stage A answers with 3 of 6 layers: first choice as the whole model’s in 84 of 100 tokens");
    await expect(strip(page)).toContainText("measured on 192 held-out chats");
    await expect(
      page.getByText(new RegExp(`^Answers after ${escaped(first)} of ${escaped(megabytes(TOTAL_BYTES))}, in \\d`)),
    ).toBeVisible();
    expect(await arrivedMegabytes(page)).toBeLessThan((TOTAL_BYTES - SECOND_BYTES) / 1e6);
  });

  test("a pause holds the bytes, and the first stage goes on answering", async () => {
    await page.getByRole("button", { name: "Pause the download of later stages" }).click();
    await expect(strip(page)).toContainText("paused");
    release();
    await underWayHasEnded(page);
    const asked: string[] = [];
    page.on("request", (request) => asked.push(request.url()));
    const before = await arrivedMegabytes(page);
    expect(before).toBeGreaterThanOrEqual(Number((FIRST_BYTES / 1e6).toFixed(1)));
    expect(before).toBeLessThan(TOTAL_BYTES / 1e6 - 1);
    const answer = await demo.askAndWait("What is the capital of France?");
    await expect(answer).toContainText(/3 tokens.* · by stage A/s);
    expect(await arrivedMegabytes(page)).toBe(before);
    expect(asked).toEqual([]);
  });

  test("on a phone the bar and the notes are no wider than the screen", async () => {
    await page.setViewportSize({ width: 360, height: 740 });
    await page.getByRole("button", { name: "Stages", exact: true }).click();
    await expect(page.getByRole("list", { name: "Stages" })).toContainText(
      `Stage B: 5 of 6 layers, ${megabytes(SECOND_BYTES)} more; first choice`,
    );
    await fitsItsWidth(page);
    await page.getByRole("button", { name: "Stages", exact: true }).click();
    await page.setViewportSize({ width: 1280, height: 720 });
  });

  test("it goes on when the visitor says so, until the whole model is here and one line is left", async () => {
    const paused = await arrivedMegabytes(page);
    await page.getByRole("button", { name: "Resume the download of later stages" }).click();
    await expect.poll(() => arrivedMegabytes(page), { timeout: SLOW_MS }).toBeGreaterThan(paused);
    await expect(strip(page)).toContainText(/stage B in (about \d+ s|a moment)/);
    const bar = strip(page).getByRole("img", { name: /^Layers and vocabulary of the model: \d+ % have arrived/ });
    await expect(bar).toBeVisible();
    await expect(strip(page)).toContainText("The whole model is here", { timeout: SLOW_MS });
    await expect(bar).toBeHidden();
    const [, answering, whole] =
      /answering since (\d+) s; the whole model would have begun at (\d+) s/.exec((await strip(page).textContent()) ?? "") ?? [];
    expect(Number(whole) - Number(answering)).toBeGreaterThan(5); // 9.6 MB at 0.5 MB/s, less what compiling took longer than the first 9.7
    await expect(page.getByRole("button", { name: /Pause|Resume/ })).toBeHidden();
  });

  test("the chat goes on over the upgrades, and shows which stage said what", async () => {
    // C takes B's upgrade into its own where that is still under way: then the boundary is B's.
    await expect(page.getByRole("log")).toContainText(/Stage C took over here: all 6 layers, K\/V of (4|2) layers kept/);
    const next = await demo.askAndWait("Which country did I ask about?");
    await expect(next).toContainText(/prompt of \d+ new and \d+ kept · by stage C/);
    await expect(next.getByTitle("Said by stage C: all 6 layers")).toHaveCount(1);
    await expect(demo.answers.first().getByTitle("Said by stage A: 3 of 6 layers")).toHaveCount(1);
  });

  test("the speed of the link is a setting, which holds for the next load, past the cache", async () => {
    await page.getByRole("button", { name: "Settings" }).click();
    const speed = page.getByLabel("Speed of the link");
    await expect(speed).toHaveValue("4");
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
  holdAfter(0);
  await open(demo, { link: "100" });
  await demo.isReady();
  await hub.pause();
  await expect(strip(page)).toContainText("Stage B could not be put in place. Stage A goes on answering.", { timeout: SLOW_MS });
  await expect(await demo.askAndWait("What is the capital of France?")).toContainText(/3 tokens.* · by stage A/);
  hub.faults = {};
  await hub.resume();
  await page.getByRole("button", { name: "Try again" }).click();
  await expect(strip(page).getByRole("status")).toBeHidden();
  await expect(strip(page)).toContainText("The whole model is here", { timeout: SLOW_MS });
  await expect(strip(page)).not.toContainText("would have begun"); // nobody knows, after that
});

interface Turn {
  readonly question: string;
  readonly text: string;
  /** Indices of the stages that said it. */
  readonly stages: readonly number[];
}

const MODULE = "/dist/crescendo.js"; // not known to the compiler

/**
 * A chat that begins as soon as it can, with a question for each stage that has landed, and what the model says to the last of them that is
 * loaded whole and given the turns before. `askedBytes` are those of the weights' file. The page tells `nextStage` that a turn is over.
 */
function chatThroughStages(page: Page, questions: readonly string[]) {
  return page.evaluate(
    async ({ model, hubEndpoint, module, questions }) => {
      const { loadEngine }: typeof Crescendo = await import(module);
      let askedBytes = 0;
      const countingFetch: typeof fetch = (input, init) => {
        const [, start, end] = /^bytes=(\d+)-(\d+)$/.exec(new Headers(init?.headers).get("range") ?? "") ?? [];
        if (/model\.safetensors/.test(String(input))) askedBytes += Number(end) + 1 - Number(start);
        return fetch(input, init);
      };
      // Digits and capitals alone, which the vocabulary joins to nothing: a text of letters would be cut into other tokens when it is read again.
      const isAllowed = (id: number) => /[0-9A-Z]/.test(String.fromCharCode(id - 3)); // three special tokens, then the bytes
      const banned = Array.from({ length: 512 }, (_, id) => id).filter((id) => id > 127 || !isAllowed(id));
      const logitBias = new Map(banned.map((id) => [id, Number.NEGATIVE_INFINITY]));
      const saying = { temperature: 0, maxTokens: 6, logitBias };
      const engine = await loadEngine(model, { hubEndpoint, fetch: countingFetch });
      const chat = engine.createChat();
      const turns: Turn[] = [];
      for (const [index, question] of questions.entries()) {
        while (engine.stage.index < index) await new Promise((resolve) => setTimeout(resolve, 20));
        const stages = new Set<number>();
        let text = "";
        for await (const delta of chat.send(question, saying)) {
          text += delta.text;
          stages.add(delta.stage);
        }
        turns.push({ question, text, stages: [...stages] });
        await (globalThis as unknown as { nextStage(): Promise<void> }).nextStage();
      }
      const whole = await loadEngine(model, { hubEndpoint, plan: "whole", shareDeviceWith: engine }); // from the cache
      const messages = chat.messages.slice(0, -2);
      const wholeAnswer = await whole.createChat({ messages }).send(questions.at(-1) ?? "", saying).finished;
      const firstStageBytes = engine.stages[0]?.bytes ?? 0;
      for (const each of [whole, engine]) each.dispose();
      return { turns, wholeText: wholeAnswer.text, firstStageBytes, askedBytes };
    },
    { model: MODEL, hubEndpoint: hub.url, module: MODULE, questions },
  );
}

test("the first word takes the bytes of the first stage alone, and the chat that goes on over both upgrades ends as the whole model's", async ({
  page,
}) => {
  const sentBytes: number[] = [];
  let release = holdAfter(0);
  await page.exposeFunction("nextStage", () => {
    const weights = hub.requests.filter(({ path }) => WEIGHTS.test(path));
    sentBytes.push(weights.reduce((sum, request) => sum + request.bytesSent, 0));
    const releaseNext = sentBytes.length === 1 ? holdAfter(1) : () => undefined;
    release();
    release = releaseNext;
  });
  hub.requests.length = 0;
  await page.goto("/tests/e2e/empty.html");
  const questions = ["What is the capital of France?", "What is the capital of Japan?", "Which country did I ask about first?"];
  const { turns, wholeText, firstStageBytes, askedBytes } = await chatThroughStages(page, questions);
  expect(firstStageBytes).toBe(FIRST_BYTES);
  expect(sentBytes[0]).toBeGreaterThanOrEqual(FIRST_BYTES);
  expect(sentBytes[0]).toBeLessThanOrEqual(1.05 * FIRST_BYTES);
  // Each piece of a matrix is read to the next 16 KiB, and these are small: 33 pieces have a neighbour. The embedded model is held to 1 %.
  expect(askedBytes).toBeLessThanOrEqual(1.05 * TOTAL_BYTES);
  expect(turns.map(({ stages }) => stages)).toEqual([[0], [1], [2]]);
  for (const { text } of turns) expect(text).toMatch(/^[0-9A-Z]{6}$/);
  expect(turns.at(-1)?.text).toBe(wholeText);
});
