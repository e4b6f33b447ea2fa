// Exposes the questions to a script. The page shows no text: a bare GPU machine has no fonts.
import { droppedFiles, type ModelFiles } from "../src/repository/model-files";
import { filesOf, question } from "./questions";
import { tablesOf, textTable } from "./tables";

/**
 * `model` is a URL, the name of a synthetic model, or null for the file chosen in the page. With the option `cache`, a second read comes from
 * OPFS.
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
