// Puts the questions where a script asks them: on a page without a word, since a machine with nothing but a GPU has no fonts.
import { droppedFiles, type ModelFiles } from "../src/repository/model-files";
import { filesOf, question } from "./questions";
import { tablesOf, textTable } from "./tables";

/**
 * `model` is a URL, a synthetic model's name, or null for the file that the page was given; with the option `cache`, what was read once
 * comes from OPFS.
 */
export async function ask(name: string, model: string | null, options: Record<string, unknown> = {}): Promise<object> {
  const date = new Date().toISOString();
  const result = await question(name)(modelFiles(model, options), options);
  return { date, userAgent: navigator.userAgent, ...result };
}

function modelFiles(model: string | null, options: Record<string, unknown>): ModelFiles | null {
  const given = [...(document.querySelector<HTMLInputElement>("input[type=file]")?.files ?? [])];
  return model === null && given.length > 0 ? droppedFiles(given) : filesOf(model, options.cache === true);
}

Object.assign(globalThis, { ask, tell: (result: object) => tablesOf(result).map(textTable).join("\n\n") });
document.documentElement.dataset.ready = "true";
