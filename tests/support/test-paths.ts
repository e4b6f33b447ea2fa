// Where the files of tests lie. Every test that reads a file, in Node or in a browser, finds it through here.
import { resolve, sep } from "node:path";

/** CRESCENDO_SHARED=off: as in a clone that has no ../shared beside it. */
export function isSharedOff(): boolean {
  return process.env.CRESCENDO_SHARED === "off";
}

/**
 * The absolute path of a file of the repository ("tests/golden/…") or of the folder beside it ("../shared/…").
 * Null for any other, and for all of ../shared where that is off.
 */
export function resolveTestPath(root: string, path: string, sharedIsOff = isSharedOff()): string | null {
  const folders = [resolve(root), ...(sharedIsOff ? [] : [resolve(root, "../shared")])];
  const absolute = resolve(root, path);
  return folders.some((folder) => absolute.startsWith(folder + sep)) ? absolute : null;
}
