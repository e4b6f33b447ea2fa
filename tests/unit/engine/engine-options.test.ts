// What stands where the caller says nothing, and what is refused by name.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { type EngineOptions, resolveEngineOptions } from "../../../src/engine/engine-options";
import { configFromJson } from "../../../src/weights/config-from-json";

const CONFIG = "tests/golden/llama-gqa/config.json";
const config = configFromJson(JSON.parse(readFileSync(CONFIG, "utf8")), CONFIG);

test("prefill takes activations as floats unless int8 is asked for", () => {
  expect(resolveEngineOptions({}, config).prefillActivations).toBe("float");
  expect(resolveEngineOptions({ prefillActivations: "int8" }, config).prefillActivations).toBe("int8");
});

test("a kind of activations that there is not is refused by name", () => {
  const options = { prefillActivations: "int4" } as unknown as EngineOptions;
  expect(() => resolveEngineOptions(options, config)).toThrow(/prefillActivations is int4; expected float or int8/);
});
