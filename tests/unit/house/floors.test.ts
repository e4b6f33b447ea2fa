// A folder of src/ imports from lower floors only, never sideways, never up. ARCHITECTURE.md has the picture.
import { describe, expect, test } from "vitest";
import { importedNames, readText, repositoryFiles, resolveImport } from "./source-files";

const FLOORS: readonly (readonly string[])[] = [
  ["errors.ts", "assert.ts", "quoted.ts", "time-slice.ts", "weight-format.ts"],
  ["bytes", "gpu", "tokens"],
  ["formats"],
  ["weights", "kernels", "kv"],
  ["model"],
  ["stages"],
  ["steps", "repository"],
  ["takeover", "tuning"],
  ["engine"],
  ["chat"],
  ["faces"],
  ["index.ts"],
  // The commands stand on the public API, as any caller does.
  ["cli"],
];

const floorOf = (room: string) => FLOORS.findIndex((rooms) => rooms.includes(room));

/** The folder of src/ that a path lies in, or the file's name where it lies in src/ itself; null outside src/. */
function roomOf(path: string): string | null {
  return /^src\/([^/]+)/.exec(path)?.[1] ?? null;
}

const sources = repositoryFiles("src").filter((path) => path.endsWith(".ts"));
const imports = sources.flatMap((importer) => importedNames(readText(importer)).map((name) => ({ importer, name })));

test("every file of src stands on a floor", () => {
  expect(sources.length).toBeGreaterThan(0);
  expect(sources.filter((path) => floorOf(roomOf(path) ?? "") < 0)).toEqual([]);
});

test("imports go down the floors only", () => {
  const wrong = imports.filter(({ importer, name }) => {
    const target = resolveImport(importer, name);
    const from = roomOf(importer) ?? "";
    const to = target === null ? null : roomOf(target);
    return to !== null && to !== from && floorOf(to) >= floorOf(from);
  });
  expect(wrong.map(({ importer, name }) => `${importer} imports ${name}`)).toEqual([]);
});

test("outside src, only shaders are imported, and only by kernels and gpu", () => {
  const wrong = imports.filter(({ importer, name }) => {
    const target = resolveImport(importer, name);
    if (target === null || roomOf(target) !== null) return false;
    return !(target.startsWith("shaders/") && ["kernels", "gpu"].includes(roomOf(importer) ?? ""));
  });
  expect(wrong.map(({ importer, name }) => `${importer} imports ${name}`)).toEqual([]);
});

test("each package is imported where it belongs", () => {
  const homes: Readonly<Record<string, readonly string[]>> = {
    "@huggingface/jinja": ["tokens"],
    "@huggingface/tokenizers": ["tokens"],
    webgpu: ["cli"],
  };
  const wrong = imports.filter(({ importer, name }) => {
    if (name.startsWith(".") || name.startsWith("node:")) return false;
    return !homes[name]?.includes(roomOf(importer) ?? "");
  });
  expect(wrong.map(({ importer, name }) => `${importer} imports ${name}`)).toEqual([]);
});

test("nothing that the public API reaches needs Node", () => {
  const reached = new Set(["src/index.ts"]);
  for (const path of reached) {
    for (const name of importedNames(readText(path))) {
      const target = resolveImport(path, name);
      if (target && sources.includes(target)) reached.add(target);
    }
  }
  expect(reached.size).toBeGreaterThan(1);
  expect([...reached].filter((path) => importedNames(readText(path)).some((name) => name.startsWith("node:")))).toEqual([]);
});

test("the demo uses the public API only", () => {
  const wrong = repositoryFiles("demo")
    .filter((path) => path.endsWith(".ts"))
    .flatMap((importer) => importedNames(readText(importer)).map((name) => ({ importer, target: resolveImport(importer, name) })))
    .filter(({ target }) => target !== null && !target.startsWith("demo/") && target !== "src/index.ts");
  expect(wrong).toEqual([]);
});

describe("the reader of imports sees", () => {
  test.each([
    ['import { a } from "./x";', "./x"],
    ['import type { A } from "./x";', "./x"],
    ['import {\n  a,\n  type B,\n} from "./x";', "./x"],
    ['import "./x";', "./x"],
    ['export { a } from "./x";', "./x"],
    ['export type * from "./x";', "./x"],
    ['const a = await import("./x");', "./x"],
    ['let a: import("./x").A;', "./x"],
    ['import.meta.glob<string>("./x/*.wgsl", { eager: true })', "./x/*.wgsl"],
    ['new Worker(new URL("./x.ts", import.meta.url))', "./x.ts"],
    ['import a from "./x?worker&inline";', "./x?worker&inline"],
  ])("%j", (code, name) => {
    expect(importedNames(code)).toEqual([name]);
  });
  test("and no comments", () => {
    expect(importedNames('// import "./x";\n/* import "./y";\n*/ f(); // from "./z"')).toEqual([]);
  });
});
