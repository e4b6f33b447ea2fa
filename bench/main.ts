// The bench page: puts the measurements where a script, or a person at the console, calls them.
import { measureSpeed } from "./speed";

Object.assign(globalThis, { measureSpeed });
document.documentElement.dataset.ready = "true";
