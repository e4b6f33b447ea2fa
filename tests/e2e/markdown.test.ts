// What a model may write onto the demo page, and how it is drawn while it grows.
import { expect, type Page, test } from "@playwright/test";
import { build } from "vite";
import type * as Markdown from "../../demo/markdown";

let script: string;

test.beforeAll(async () => {
  const output = await build({
    configFile: false,
    logLevel: "error",
    publicDir: false,
    build: { write: false, target: "es2022", lib: { entry: "demo/markdown.ts", formats: ["es"] } },
  });
  const [bundle] = Array.isArray(output) ? output : [output];
  const chunk = bundle && "output" in bundle ? bundle.output.find((file) => file.type === "chunk") : undefined;
  script = chunk?.code ?? "";
});

test.beforeEach(async ({ page }) => {
  await page.route("**/markdown.js", (route) => route.fulfill({ contentType: "text/javascript", body: script }));
  await page.route("**/markdown.html", (route) => route.fulfill({ contentType: "text/html", body: "<div id=root></div>" }));
  await page.goto("/markdown.html");
});

/** Draws the texts one after the other, and returns what then stands there. */
function draw(page: Page, ...texts: readonly string[]): Promise<string> {
  return page.evaluate(async (given) => {
    const address = "/markdown.js"; // not known to the compiler
    const { MarkdownView }: typeof Markdown = await import(address);
    const root = document.createElement("div");
    document.body.replaceChildren(root);
    const view = new MarkdownView(root);
    for (const text of given) view.update(text);
    return root.innerHTML;
  }, texts);
}

const TEXT = `# Title

Some *words*, a [link](https://example.org/?a=1&b=2) and \`code\`.

1. one
2. two
   - inner

| a | b |
| - | -: |
| 1 | 2 |

> quoted

\`\`\`js
const a = 1 < 2;
\`\`\`

A [reference] that is explained later. The end & more.

[reference]: https://example.org/later
`;

test("a text that grows letter by letter ends as the same text drawn at once", async ({ page }) => {
  const prefixes = Array.from(TEXT, (_, index) => TEXT.slice(0, index + 1));
  expect(await draw(page, ...prefixes)).toBe(await draw(page, TEXT));
});

test("blocks that do not change keep their elements while the text grows", async ({ page }) => {
  const kept = await page.evaluate(async (text) => {
    const address = "/markdown.js";
    const { MarkdownView }: typeof Markdown = await import(address);
    const root = document.createElement("div");
    const view = new MarkdownView(root);
    view.update(text);
    const before = [...root.children];
    view.update(`${text}\nAnd a block.`);
    return before.map((block, index) => block === root.children[index]);
  }, TEXT);
  expect(kept).toEqual([true, true, true, true, true, true, true]);
});

test("nothing that a model writes runs, loads or looks like the page's own", async ({ page }) => {
  const requests: string[] = [];
  page.on("request", (request) => requests.push(request.url()));
  const hostile = [
    "<script>document.title = 'taken'</script>",
    "<img src=x onerror=\"document.title='taken'\">",
    "text <b onclick=alert(1)>bold</b> <iframe src=https://example.org></iframe>",
    "[press](javascript:document.title='taken') [data](data:text/html,x) [rel](/settings)",
    "![picture](https://example.org/spy.png)",
    '<https://example.org/ok> [quote](https://example.org/"onmouseover=alert(1))',
    '```"><img src=x onerror=alert(1)>\ncode\n```',
    "<style>body{display:none}</style>",
  ].join("\n\n");
  await draw(page, hostile);
  const found = await page.evaluate(() => ({
    elements: document.querySelectorAll("script, img, iframe, style, b, form").length,
    handlers: [...document.querySelectorAll("#root *, body *")].flatMap((e) =>
      e.getAttributeNames().filter((name) => name.startsWith("on")),
    ),
    links: [...document.querySelectorAll("a")].map((a) => a.getAttribute("href")).filter((href) => href !== null),
    text: document.body.textContent,
  }));
  expect(found.elements).toBe(0);
  expect(found.handlers).toEqual([]);
  expect(found.links.every((href) => href.startsWith("https://example.org/"))).toBe(true);
  expect(found.text).toContain("<script>document.title = 'taken'</script>"); // shown as it was written
  await expect(page).not.toHaveTitle("taken");
  expect(requests.filter((url) => !url.endsWith("/markdown.js"))).toEqual([]);
});

// Once lost to the check of addresses, which DOMPurify makes of every attribute that it does not know to be none.
test("a list's first number, a column's side and a ticked box are drawn", async ({ page }) => {
  await draw(page, "3. three\n4. four\n\n| a |\n| -: |\n| 1 |\n\n- [x] done\n- [ ] to do");
  await expect(page.locator("ol")).toHaveAttribute("start", "3");
  await expect(page.locator("td")).toHaveCSS("text-align", /right/);
  await expect(page.getByRole("checkbox", { checked: true, disabled: true })).toHaveCount(1);
  await expect(page.getByRole("checkbox", { checked: false, disabled: true })).toHaveCount(1);
});

test("links open elsewhere and tell nobody where they come from", async ({ page }) => {
  await draw(page, "[out](https://example.org)");
  await expect(page.locator("a")).toHaveAttribute("target", "_blank");
  await expect(page.locator("a")).toHaveAttribute("rel", "noopener noreferrer");
});

test("the button over a code block copies the code alone", async ({ page, context }) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await draw(page, "Before\n\n```js\nconst a = 1 < 2;\n```\n\nAfter");
  await page.getByRole("button", { name: "Copy the code" }).click();
  await expect(page.getByText("Copied")).toBeVisible();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe("const a = 1 < 2;\n");
});
