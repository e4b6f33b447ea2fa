// The bench page: puts the questions where a script, or a person at the console, asks them.
import { filesOf, question } from "./questions";

Object.assign(globalThis, {
  ask: (name: string, model: string | null, options: Record<string, unknown> = {}) => question(name)(filesOf(model), options),
});
document.documentElement.dataset.ready = "true";
