// No file of src imports, by whatever way round, a file that imports it: types count, since who reads the one must read the other.
import { expect, test } from "vitest";
import { importedNames, readText, repositoryFiles, resolveImport } from "./source-files";

type Imports = ReadonlyMap<string, readonly string[]>;

function importsOfSources(): Imports {
  const sources = repositoryFiles("src").filter((path) => path.endsWith(".ts"));
  const known = new Set(sources);
  return new Map(
    sources.map((path) => {
      const targets = importedNames(readText(path)).map((name) => resolveImport(path, name));
      return [path, [...new Set(targets.filter((target) => target !== null && known.has(target)) as string[])]];
    }),
  );
}

/** The files that reach each other, each set once and in order: Tarjan's strongly connected components of more than one file. */
function circles(imports: Imports): string[][] {
  const found: string[][] = [];
  const index = new Map<string, number>();
  const low = new Map<string, number>();
  const stack: string[] = [];
  const visit = (path: string): void => {
    index.set(path, index.size);
    low.set(path, index.get(path) ?? 0);
    stack.push(path);
    const lower = (to: number | undefined) => low.set(path, Math.min(low.get(path) ?? 0, to ?? 0));
    for (const target of imports.get(path) ?? []) {
      if (!index.has(target)) {
        visit(target);
        lower(low.get(target));
      } else if (stack.includes(target)) lower(index.get(target));
    }
    if (low.get(path) !== index.get(path)) return;
    const members = stack.splice(stack.indexOf(path));
    if (members.length > 1 || imports.get(path)?.includes(path)) found.push(members.sort());
  };
  for (const path of imports.keys()) if (!index.has(path)) visit(path);
  return found.sort();
}

test("no files of src import each other in a circle", () => {
  const imports = importsOfSources();
  expect(imports.size).toBeGreaterThan(0);
  expect(circles(imports).map((members) => members.join(" ↔ "))).toEqual([]);
});

test.each<[string, Record<string, string[]>, string[][]]>([
  ["a file that imports itself", { a: ["a"], b: [] }, [["a"]]],
  ["two files", { a: ["b"], b: ["a"], c: ["a"] }, [["a", "b"]]],
  [
    "a longer way round, and another beside it",
    { a: ["b"], b: ["c"], c: ["a", "d"], d: ["e"], e: ["d"] },
    [
      ["a", "b", "c"],
      ["d", "e"],
    ],
  ],
  ["no circle in what meets again below", { a: ["b", "c"], b: ["d"], c: ["d"], d: [] }, []],
])("the finder of circles finds %s", (_, imports, found) => {
  expect(circles(new Map(Object.entries(imports)))).toEqual(found);
});
