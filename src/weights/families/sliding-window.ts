// Reads the sliding window from a config.json, which states it by layer or for all. All layers must have it, or none.
import type { ConfigFields } from "../config-fields";

/**
 * `window` if every layer has it, null if none has. `layer_types` decides if present; otherwise layers from `firstLayer` on have it.
 *
 * @throws LlmError "unsupported" when some layers have a window and others see everything
 */
export function windowOfAllLayers(
  fields: ConfigFields,
  { window, firstLayer }: { readonly window: number | null; readonly firstLayer: number },
): number | null {
  if (window === null) return null;
  const layerCount = fields.count("num_hidden_layers");
  const types = fields.value("layer_types") ?? Array.from({ length: layerCount }, (_, layer) => layerType(layer >= firstLayer));
  if (!Array.isArray(types) || types.length !== layerCount) throw fields.wrong("layer_types", `a list of ${layerCount}`);
  if (types.every((type) => type === layerType(false))) return null;
  if (types.every((type) => type === layerType(true))) return window;
  const key = fields.has("layer_types") ? "layer_types" : "max_window_layers";
  throw fields.unsupported(key, "all layers must have the sliding window, or none");
}

function layerType(hasWindow: boolean): string {
  return hasWindow ? "sliding_attention" : "full_attention";
}
