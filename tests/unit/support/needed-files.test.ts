import { describe, expect, test } from "vitest";
import { needsFiles } from "../../support/needed-files";
import { NAMES_SHARED } from "../../support/shared-tag";
import { resolveTestPath } from "../../support/test-paths";
import { readText, repositoryFiles } from "../house/source-files";

describe("a test that needs files", () => {
  test("runs where they are there", async () => {
    expect(await needsFiles("package.json", "LICENSE")).toEqual({});
  });
  test("is skipped where one is not there, and says which", async () => {
    expect(await needsFiles("package.json", "tests/none")).toEqual({ skip: true, meta: { skipReason: "no tests/none" } });
    expect((await needsFiles("tests/none", "tests/nothing", "LICENSE")).meta?.skipReason).toBe("no tests/none, and 1 more");
  });
  test("is marked where one is of ../shared, there or not", async () => {
    expect(await needsFiles("package.json", "../shared/none")).toMatchObject({ tags: ["shared"], skip: true });
  });
});

describe("a test file", () => {
  const resolved = (path: string, sharedIsOff = false) => resolveTestPath("/some/repository", path, sharedIsOff)?.replaceAll("\\", "/");
  test("lies in the repository or in ../shared, and nowhere else", () => {
    expect(resolved("tests/golden/a.json")).toMatch(/repository\/tests\/golden\/a\.json$/);
    expect(resolved("../shared/golden/a.json")).toMatch(/some\/shared\/golden\/a\.json$/);
    for (const path of ["../other/a.json", "../shared-too/a.json", "../../etc/passwd", "../repository-too/a.json"]) {
      expect(resolved(path), path).toBeUndefined();
    }
  });
  test("of ../shared cannot be read where that is off", () => {
    for (const path of ["../shared/golden/a.json", "tests/../../shared/a.json"]) expect(resolved(path, true), path).toBeUndefined();
    expect(resolved("tests/golden/a.json", true)).toBeDefined();
  });
});

// Else the test would fail in a clone, or would have another name there.
test("every test that names a file of ../shared says that it needs it", () => {
  const naming = repositoryFiles("tests").filter((path) => path.endsWith(".test.ts") && NAMES_SHARED.test(readText(path)));
  expect(naming.length).toBeGreaterThan(5);
  expect(naming.filter((path) => !readText(path).includes("needsFiles("))).toEqual([]);
});

// Else `npm run test:shared` would not find it.
test("no file names ../shared for a test in another one, and none but those of tests/unit and tests/engine reads it", () => {
  const naming = repositoryFiles("tests").filter((path) => path.endsWith(".ts") && NAMES_SHARED.test(readText(path)));
  const support = ["needed-files", "test-files", "test-paths"].map((name) => `tests/support/${name}.ts`); // which find any file
  expect(naming.filter((path) => !support.includes(path) && !/^tests\/(unit|engine)\/.*\.test\.ts$/.test(path))).toEqual([]);
});
