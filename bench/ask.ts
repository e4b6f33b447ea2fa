// Puts the questions where a script asks them: on a page without a word, since a machine with nothing but a GPU has no fonts.
import { filesOf, question } from "./questions";
import { tablesOf, textTable } from "./tables";

/** `model` is a URL or a synthetic model's name; with the option `cache`, what was read once comes from OPFS. */
export async function ask(name: string, model: string | null, options: Record<string, unknown> = {}): Promise<object> {
  const date = new Date().toISOString();
  const result = await question(name)(filesOf(model, options.cache === true), options);
  return { date, userAgent: navigator.userAgent, ...result };
}

Object.assign(globalThis, { ask, tell: (result: object) => tablesOf(result).map(textTable).join("\n\n") });
document.documentElement.dataset.ready = "true";
