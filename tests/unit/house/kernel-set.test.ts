// A kernel is four files of one stem: its shader, its definition, its CPU reference and its test.
import { existsSync } from "node:fs";
import { basename } from "node:path";
import { expect, test } from "vitest";
import { importedNames, readText, repositoryFiles } from "./source-files";

/** Files among the kernels' that are not kernels: what several of them share. */
const SHARED: Readonly<Record<string, readonly string[]>> = {
  "src/kernels": [
    "cached-heads",
    "epilogue",
    "gemv-batch",
    "gemv-candidates",
    "sampling-params",
    "step-shape",
    "step-state",
    "weight-defines",
  ],
  "tests/reference": ["paged-cache", "random-matrix"],
};

function stems(folder: string, ending: string): string[] {
  return repositoryFiles(folder, { deep: false })
    .filter((path) => path.endsWith(ending))
    .map((path) => basename(path, ending))
    .filter((stem) => !SHARED[folder]?.includes(stem));
}

const shaders = stems("shaders", ".wgsl");

test("there are kernels", () => {
  expect(shaders.length).toBeGreaterThan(0);
});

test.each([
  ["definition", "src/kernels", ".ts"],
  ["CPU reference", "tests/reference", ".ts"],
  ["test", "tests/kernels", ".test.ts"],
])("every shader has its %s in %s, and there is none without a shader", (_, folder, ending) => {
  expect(stems(folder, ending)).toEqual(shaders);
});

test("a definition runs the shader of its own stem, under its own name", () => {
  for (const stem of shaders) {
    const code = readText(`src/kernels/${stem}.ts`);
    expect(importedNames(code).filter((name) => name.includes("/shaders/"))).toEqual([`../../shaders/${stem}.wgsl?raw`]);
    expect(code).toContain(`name: "${stem}"`);
  }
});

test("a kernel test compares with the reference of its own stem", () => {
  for (const stem of shaders) expect(importedNames(readText(`tests/kernels/${stem}.test.ts`))).toContain(`../reference/${stem}`);
});

test("the names of shared files are not stale", () => {
  const listed = Object.entries(SHARED).flatMap(([folder, names]) => names.map((name) => `${folder}/${name}.ts`));
  expect(listed.filter((path) => !existsSync(path))).toEqual([]);
});
