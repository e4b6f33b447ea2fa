// Mistral: Llama's layer with a sliding window. (llama.cpp calls it llama and stores no window.)
import type { ConfigFields } from "../config-fields";
import type { Family } from "./family";
import { llamaConfigFromJson, llamaGlobalNames, llamaLayerNames } from "./llama";
import { windowOfAllLayers } from "./sliding-window";

export const mistral: Family = {
  name: "mistral",
  configFromJson: (fields) =>
    llamaConfigFromJson(fields, {
      family: "mistral",
      qkvBias: false,
      slidingWindow: slidingWindow(fields),
      defaultKvHeadCount: 8,
      defaultMaxPositions: 131072,
    }),
  layerNames: (format, layer) => llamaLayerNames(format, layer, "halves"),
  globalNames: llamaGlobalNames,
};

/** Without the key the window is 4096; null means no window. */
function slidingWindow(fields: ConfigFields): number | null {
  const window = fields.value("sliding_window") === null ? null : fields.count("sliding_window", 4096);
  return windowOfAllLayers(fields, { window, firstLayer: 0 });
}
