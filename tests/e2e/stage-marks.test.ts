// How an answer shows which stage said what, whatever Markdown it is.
import { expect, type Page, test } from "@playwright/test";
import { build } from "vite";
import type * as Answers from "../../demo/answer-view";
import type { AnswerSummary } from "../../src/index";

let script: string;

test.beforeAll(async () => {
  const output = await build({
    configFile: false,
    logLevel: "error",
    publicDir: false,
    build: { write: false, target: "es2022", lib: { entry: "demo/answer-view.ts", formats: ["es"] } },
  });
  const [bundle] = Array.isArray(output) ? output : [output];
  const chunk = bundle && "output" in bundle ? bundle.output.find((file) => file.type === "chunk") : undefined;
  script = chunk?.code ?? "";
});

test.beforeEach(async ({ page }) => {
  await page.route("**/answer.js", (route) => route.fulfill({ contentType: "text/javascript", body: script }));
  await page.route("**/answer.html", (route) => route.fulfill({ contentType: "text/html", body: "<body></body>" }));
  await page.goto("/answer.html");
});

const SUMMARY: AnswerSummary = {
  text: "",
  finishReason: "stop",
  cachedTokens: 0,
  prefillTokens: 1,
  generatedTokens: 2,
  timeToFirstTokenMs: 0,
  prefillTokensPerSecond: 0,
  decodeTokensPerSecond: 0,
};

/** Draws an answer whose pieces stages 0, 1 and 2 said. A frame passes after each piece where it `grows`. */
async function draw(page: Page, pieces: readonly (readonly [text: string, stage: number])[], { grows = false, stageCount = 3 } = {}) {
  await page.evaluate(
    async ({ given, stageCount, grows, summary }) => {
      const address = "/answer.js"; // not known to the compiler
      const { AnswerView }: typeof Answers = await import(address);
      const labels = ["A", "B", "C"].slice(0, stageCount).map((letter) => {
        return { letter, title: `Stage ${letter}`, contents: "some layers", color: "red" };
      });
      const view = new AnswerView(labels);
      document.body.replaceChildren(view.root);
      for (const [text, stage] of given) {
        view.append(text, stage);
        if (grows) await new Promise(requestAnimationFrame);
      }
      view.finish(summary, 100);
    },
    { given: pieces, stageCount, grows, summary: SUMMARY },
  );
}

/** The text with "[B]" where a letter stands. */
function marked(page: Page): Promise<string> {
  return page.locator(".prose").evaluate((prose) => {
    const copy = prose.cloneNode(true) as HTMLElement;
    for (const mark of copy.querySelectorAll<HTMLElement>("[data-letter]")) mark.textContent = `[${mark.dataset.letter}]`;
    return copy.textContent?.replace(/\n(?=\n|$)/g, "") ?? "";
  });
}

test("the letter of a stage stands where it went on, in the middle of a paragraph, of bold words, of code", async ({ page }) => {
  await draw(page, [
    ["Some **bo", 0],
    ["ld words**, [a link](https://example.org/a) and", 1],
    [" `code`, then\n\n```js\nconst a = ", 1],
    ["1 < 2;\n```\n\nThe end", 2],
  ]);
  expect(await marked(page)).toBe("Some bo[B]ld words, a link and code, then\njsCopyconst a = [C]1 < 2;\nThe end");
  await expect(page.getByTitle("Said by stage A, then stage B")).toHaveCount(1);
  await expect(page.getByTitle("Said by stage B, then stage C")).toHaveCount(1);
  await expect(page.getByTitle("Said by stage C: some layers")).toHaveCount(1);
  await expect(page.getByRole("article")).toContainText("by stage A, then stage B, then stage C");
});

test("a stage that goes on with a new paragraph has its letter at that one's beginning", async ({ page }) => {
  await draw(page, [
    ["One.", 0],
    ["\n\n", 1],
    ["Two.", 1],
  ]);
  expect(await marked(page)).toBe("One.\n[B]Two.");
  await expect(page.getByTitle("Said by stage A: some layers")).toHaveCount(1);
  await expect(page.getByTitle("Said by stage B: some layers")).toHaveCount(1);
});

test("an answer that grows is marked as one that is drawn at once", async ({ page }) => {
  const pieces = [..."# Title\n\n1. one\n2. *two*\n\n| a | b |\n| - | - |\n| 1 | 2 |\n\nThe &amp; end"].map(
    (letter, index) => [letter, Math.floor(index / 25)] as const,
  );
  await draw(page, pieces);
  const atOnce = await page.locator(".prose").innerHTML();
  await draw(page, pieces, { grows: true });
  expect(await page.locator(".prose").innerHTML()).toBe(atOnce);
  expect(await marked(page)).toMatch(/\[B\].*\[C\]/s);
});

test("no copy has the letters: not the answer's, not the code's", async ({ page, context }) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await draw(page, [
    ["```js\nconst a ", 0],
    ["= 1;\n```\nEnd", 1],
  ]);
  await page.getByRole("button", { name: "Copy the code" }).click();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe("const a = 1;\n");
  await page.getByRole("button", { name: "Copy the answer" }).click();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe("```js\nconst a = 1;\n```\nEnd");
});

test("an answer of a model that came whole is drawn without marks", async ({ page }) => {
  await draw(page, [["Some *words*.", 0]], { stageCount: 1 });
  expect(await page.locator(".prose").innerHTML()).toBe("<p>Some <em>words</em>.</p>\n");
  await expect(page.getByRole("article")).not.toContainText("by stage");
});
