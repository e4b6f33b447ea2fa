// Qwen2 and Qwen2.5: Llama's layer with a bias on q, k and v.
import type { ConfigFields } from "../config-fields";
import type { Family } from "./family";
import { llamaConfigFromJson, llamaGlobalNames, llamaLayerNames, llamaTraitsFromGguf } from "./llama";
import { windowOfAllLayers } from "./sliding-window";

export const qwen2: Family = {
  name: "qwen2",
  configFromJson: (fields) =>
    llamaConfigFromJson(fields, {
      family: "qwen2",
      qkvBias: true,
      slidingWindow: slidingWindow(fields),
      defaultKvHeadCount: 32,
      defaultMaxPositions: 32768,
    }),
  traitsFromGguf: (fields, directory) => ({ ...llamaTraitsFromGguf(fields, directory), qkvBias: true }),
  layerNames: (format, layer) => llamaLayerNames(format, layer, "halves"),
  globalNames: llamaGlobalNames,
};

/** The file states the window even when it is off. When on, it begins at layer `max_window_layers`. */
function slidingWindow(fields: ConfigFields): number | null {
  if (!fields.flag("use_sliding_window", false) || fields.value("sliding_window") === null) return null;
  const firstLayer = fields.value("max_window_layers") === 0 ? 0 : fields.count("max_window_layers", 28);
  return windowOfAllLayers(fields, { window: fields.count("sliding_window", 4096), firstLayer });
}
