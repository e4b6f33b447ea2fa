// Reads the model's configuration from config.json, with the defaults of transformers.
import { LlmError } from "../errors";
import { checkedConfig } from "./config-check";
import { ConfigFields } from "./config-fields";
import { FAMILIES } from "./families";
import type { ModelConfig } from "./model-config";

/**
 * @param json the parsed config.json; sizes are required, all else has the defaults of transformers
 * @param name the file's URL or path, for messages
 * @throws LlmError "bad-config" when a field is missing, wrong, or at odds with another; "unsupported" for an architecture or a variant
 * of one that we cannot run
 */
export function configFromJson(json: unknown, name: string): ModelConfig {
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new LlmError("bad-config", `${name}: not a JSON object. Is it the config.json of a model?`);
  }
  const fields = new ConfigFields(new Map(Object.entries(json)), name);
  const family = FAMILIES.get(fields.text("model_type"));
  if (family === undefined) throw fields.unsupported("model_type", `supported: ${[...FAMILIES.keys()].join(", ")}`);
  if (fields.has("quantization_config")) {
    throw fields.unsupported("quantization_config", "use the model's unquantised safetensors, or a GGUF");
  }
  return checkedConfig(family.configFromJson(fields), name);
}
