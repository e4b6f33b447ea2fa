// The repository's own files, as the house tests read them.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** The files in a folder, and with `deep` in those inside it, in order, as paths from the repository's root. */
export function repositoryFiles(folder: string, { deep = true } = {}): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: deep, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).replaceAll("\\", "/"))
    .sort();
}

export function readText(path: string): string {
  return readFileSync(path, "utf8");
}

/** Every module that the text names: imports and re-exports, of types too, dynamic imports, import types, globs, workers and other URLs. */
export function importedNames(text: string): string[] {
  const code = text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/(^|\s)\/\/.*$/gm, "$1");
  const patterns = [
    /\b(?:import|export)\b[^"'`;]*?\bfrom\s*["']([^"']+)["']/g,
    /\bimport\s*["']([^"']+)["']/g,
    /\bimport\s*\(\s*(?:\/\*.*?\*\/\s*)?["'`]([^"'`]+)["'`]/g,
    /\bimport\.meta\.glob(?:<[^(]*>)?\(\s*["'`]([^"'`]+)["'`]/g,
    /\bnew URL\(\s*["'`](\.[^"'`]+)["'`]\s*,\s*import\.meta\.url/g,
  ];
  return patterns.flatMap((pattern) => [...code.matchAll(pattern)].map(([, name = ""]) => name));
}

/** The path from the root that a relative import means, with its extension where it is a module of ours; null for a package. */
export function resolveImport(importer: string, name: string): string | null {
  if (!name.startsWith(".")) return null;
  const path = join(dirname(importer), name.replace(/\?.*$/, "")).replaceAll("\\", "/");
  return [path, `${path}.ts`, `${path}/index.ts`].find((candidate) => /\.\w+$/.test(candidate) && existsSync(candidate)) ?? path;
}
