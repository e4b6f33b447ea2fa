// Reads the rotary embedding from config.json: `rope_parameters` of transformers 5, or the older `rope_theta` and `rope_scaling`.
import { LlmError } from "../errors";
import type { ConfigFields } from "./config-fields";
import type { RopeConfig } from "./model-config";

const DEFAULT_THETA = 10000;

/** @throws LlmError "bad-config" | "unsupported" (any scaling except llama3's; rotation of a part of the head) */
export function ropeFromJson(fields: ConfigFields, headDim: number): RopeConfig {
  const current = fields.has("rope_parameters");
  const parameters = fields.nested(current ? "rope_parameters" : "rope_scaling");
  const theta = current && parameters.has("rope_theta") ? parameters.positive("rope_theta") : fields.positive("rope_theta", DEFAULT_THETA);
  for (const place of [fields, parameters]) {
    if (place.positive("partial_rotary_factor", 1) !== 1) {
      throw place.unsupported("partial_rotary_factor", "this family rotates whole heads only");
    }
  }
  const typeKey = parameters.has("rope_type") ? "rope_type" : "type"; // `type` is the oldest name
  switch (parameters.text(typeKey, "default")) {
    case "default":
      return { theta, dimensions: headDim };
    case "llama3":
      return { theta, dimensions: headDim, frequencyDivisors: llama3Divisors(parameters, theta, headDim) };
    default:
      throw parameters.unsupported(typeKey, "supported: default and llama3");
  }
}

/**
 * Llama 3's scaling: short wavelengths stay, long ones are stretched by `factor`, those in between are blended. (A wavelength is the number of
 * positions for one turn of a pair.)
 */
function llama3Divisors(fields: ConfigFields, theta: number, headDim: number): number[] {
  const factor = fields.positive("factor");
  const low = fields.positive("low_freq_factor");
  const high = fields.positive("high_freq_factor");
  const originalPositions = fields.count("original_max_position_embeddings");
  if (high <= low) throw fields.wrong("high_freq_factor", `more than low_freq_factor, ${low}`);
  return Array.from({ length: headDim / 2 }, (_, pair) => {
    const wavelength = 2 * Math.PI * theta ** ((2 * pair) / headDim);
    const turns = originalPositions / wavelength;
    if (turns > high) return 1;
    if (turns < low) return factor;
    const smooth = (turns - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
  });
}

/** Refuses divisors that are not positive numbers: they would make every later position wrong. */
export function checkDivisors(divisors: readonly number[], where: string): void {
  divisors.forEach((divisor, pair) => {
    if (!(divisor > 0 && Number.isFinite(divisor))) {
      throw new LlmError("bad-weights", `${where}: divisor ${divisor} of rotary pair ${pair}, expected a number above 0`);
    }
  });
}
