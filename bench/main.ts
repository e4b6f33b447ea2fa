// The bench page: puts the measurements where a script, or a person at the console, calls them.
import { locateModel } from "../src/engine/model-files";
import { measureSpeed } from "./speed";
import { measureUpgrade, type UpgradeBenchOptions } from "./upgrade";

Object.assign(globalThis, {
  measureSpeed,
  measureUpgrade: (url: string, options: UpgradeBenchOptions) => measureUpgrade(locateModel(url, { cache: false }), options),
});
document.documentElement.dataset.ready = "true";
