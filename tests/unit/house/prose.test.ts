// How the project writes: lines of prose that fit a screen, in Markdown and in comments.
import { expect, test } from "vitest";
import { readText, repositoryFiles } from "./source-files";

const MAX_LENGTH = 159;
const FOLDERS = [".ci", "bench", "demo", "docs", "shaders", "src", "tests", "tools"];

const files = [...repositoryFiles(".", { deep: false }), ...FOLDERS.flatMap((folder) => repositoryFiles(folder))].filter(
  (path) => !/^(tests\/golden|bench\/results)\//.test(path),
);

/** Lines of text, numbered. Fenced code and tables are left out: they cannot be wrapped. */
function proseOfMarkdown(text: string): [number, string][] {
  let isCode = false;
  return [...text.split("\n").entries()].filter(([, line]) => {
    const isFence = /^\s*```/.test(line);
    if (isFence) isCode = !isCode;
    return !isCode && !isFence && !line.trimStart().startsWith("|");
  });
}

/** Lines that are comments as a whole, numbered. A line with a long URL cannot be wrapped either. */
function proseOfCode(text: string): [number, string][] {
  return [...text.split("\n").entries()].filter(([, line]) => /^\s*(\/\/|\/?\*)/.test(line) && !/https?:\/\/\S{60}/.test(line));
}

function longLines(path: string, prose: readonly [number, string][]): string[] {
  return prose.filter(([, line]) => line.length > MAX_LENGTH).map(([index, line]) => `${path}:${index + 1} has ${line.length} characters`);
}

test("a line of prose in Markdown has fewer than 160 characters", () => {
  const documents = files.filter((path) => path.endsWith(".md"));
  expect(documents).toEqual(expect.arrayContaining(["README.md", "docs/errors.md"]));
  expect(documents.flatMap((path) => longLines(path, proseOfMarkdown(readText(path))))).toEqual([]);
});

test("a comment line has fewer than 160 characters", () => {
  const code = files.filter((path) => /\.(ts|mjs|wgsl|css)$/.test(path));
  expect(code.flatMap((path) => longLines(path, proseOfCode(readText(path))))).toEqual([]);
});

test("the check sees long lines of prose, and neither code nor tables", () => {
  const long = "word ".repeat(40);
  const markdown = [long, `| ${long} |`, "```sh", long, "```", `- ${long}`].join("\n");
  expect(longLines("a.md", proseOfMarkdown(markdown)).map((found) => found.split(" ")[0])).toEqual(["a.md:1", "a.md:6"]);
  const code = [`const x = "${long}";`, `  // ${long}`, ` * ${long}`, "// short"].join("\n");
  expect(longLines("a.ts", proseOfCode(code)).map((found) => found.split(" ")[0])).toEqual(["a.ts:2", "a.ts:3"]);
});

test("every error code is in the table of errors, and no other", () => {
  const declared = [...readText("src/errors.ts").matchAll(/^ {2}\| "([a-z-]+)"/gm)].map(([, code]) => code);
  const documented = [...readText("docs/errors.md").matchAll(/^\| `([a-z-]+)` \|/gm)].map(([, code]) => code);
  expect(declared.length).toBeGreaterThan(10);
  expect(documented).toEqual(declared);
});
