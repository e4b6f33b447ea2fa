// What a linter does not know about this repository.
import { expect, test } from "vitest";
import { readText, repositoryFiles } from "./source-files";

const TEXT = /\.(ts|mjs|js|wgsl|json|md|html|css|sh|yml|yaml)$|^\.ci\/run$/;
const CODE = /\.(ts|mjs|wgsl|css)$/;

const FOLDERS = [".ci", "bench", "demo", "docs", "shaders", "src", "tests", "tools"];
const files = [...repositoryFiles(".", { deep: false }), ...FOLDERS.flatMap((folder) => repositoryFiles(folder))].filter(
  (path) => TEXT.test(path) && !/^(tests\/golden|bench\/results)\/|package-lock/.test(path),
);

test("there are files to read, at the root and below", () => {
  expect(files).toEqual(expect.arrayContaining(["package.json", ".ci/run", "src/errors.ts", "tests/unit/house/hygiene.test.ts"]));
});

test("no file names a path of somebody's machine", () => {
  const machinePath = /(?<![\w.*-])\/(?:work|home|root|Users)\/\w/;
  expect(files.filter((path) => machinePath.test(readText(path)))).toEqual([]);
});

test("no code file is longer than 400 lines", () => {
  const lengths = files.filter((path) => CODE.test(path)).map((path) => `${path}: ${readText(path).split("\n").length - 1}`);
  expect(lengths.filter((entry) => Number(entry.split(": ")[1]) > 400)).toEqual([]);
});

test("every code file begins by saying what it is", () => {
  const silent = files.filter((path) =>
    /^(src|shaders|demo|bench|tools|tests\/(support|reference|e2e))\/.*(?<!\.test)\.(ts|mjs|wgsl)$/.test(path),
  );
  expect(silent.filter((path) => !/^(#!.*\n)?\/[/*]/.test(readText(path)))).toEqual([]);
});

test("nothing is left to do", () => {
  const others = files.filter((path) => CODE.test(path) && !path.endsWith("/hygiene.test.ts"));
  expect(others.filter((path) => /\b(TODO|FIXME|XXX)\b/.test(readText(path)))).toEqual([]);
});
