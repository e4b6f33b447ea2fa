// Refusals quote little of what they found, whatever its size, and walk no value that a file nests until the stack is full.
import { describe, expect, test } from "vitest";
import { LlmError } from "../../../src/errors";
import { parseFileHashes } from "../../../src/stages/file-hashes";
import { parsePlanFile } from "../../../src/stages/plan-file";
import { Tokenizer } from "../../../src/tokens/tokenizer";
import { configFromJson } from "../../../src/weights/config-from-json";
import { bytePair, bytePairJson, bytePairMetadata } from "./golden-tokens";

const DEEP: unknown = JSON.parse("[".repeat(20_000) + "]".repeat(20_000));
const LONG = "x".repeat(100_000);
const { model } = bytePair.tokenizer;
const shape = { layerCount: 2, vocabSize: 100, requiredRows: [] };
const plan = (value: unknown) => parsePlanFile(value, shape, "progressive.json");
const tokenizer = (changes: object, rest: object = {}) => Tokenizer.fromJson({ tokenizer: bytePairJson({ ...changes }), ...rest });
const nestedSteps = (list: string) => {
  let step: object = { type: "NFC" };
  for (let depth = 0; depth < 20_000; depth++) step = { type: "Sequence", [list]: [step] };
  return step;
};

const READERS: readonly [string, (value: unknown) => unknown][] = [
  ["progressive.json", plan],
  ["a stage", (value) => plan({ format: "crescendo-progressive", version: 1, stages: [value] })],
  ["a key of a plan", (value) => plan({ format: "crescendo-progressive", version: 1, [LONG]: value })],
  ["file hashes", (value) => parseFileHashes(value, "progressive.json")],
  ["the hashes of a file", (value) => parseFileHashes({ [LONG]: value }, "progressive.json")],
  ["config.json", (value) => configFromJson({ model_type: value }, "config.json")],
  ["generation_config.json", (value) => tokenizer({}, { generationConfig: { eos_token_id: [value] } })],
  ["tokenizer_config.json", (value) => tokenizer({}, { config: { bos_token: { content: [value] } } })],
  ["a token's id", (value) => tokenizer({ model: { ...model, vocab: { [LONG]: value } } })],
  ["a merge", (value) => tokenizer({ model: { ...model, merges: [value] } })],
  ["the unknown token", (value) => tokenizer({ model: { ...model, unk_token: value } })],
  ["an added token", (value) => tokenizer({ added_tokens: [{ id: 1, content: value, single_word: true }] })],
  ["a stage's kind", (value) => tokenizer({ pre_tokenizer: { type: value } })],
  ["a split's kind", (value) => tokenizer({ pre_tokenizer: { type: "Split", pattern: { String: "a" }, behavior: value } })],
  ["a decoder", (value) => tokenizer({ decoder: { type: "Fuse", value } })],
  ["a GGUF's tokenizer", (value) => Tokenizer.fromGguf(bytePairMetadata({ "tokenizer.ggml.pre": value }))],
];

describe("a refusal is short and is an LlmError:", () => {
  for (const [where, read] of READERS)
    test.each<[string, unknown]>([
      ["a value nested 20,000 deep", DEEP],
      ["a long text", LONG],
    ])(`${where}, given %s`, async (_, value) => {
      const error: unknown = await Promise.resolve()
        .then(() => read(value))
        .then(
          () => null,
          (reason: unknown) => reason,
        );
      expect(error).toBeInstanceOf(LlmError);
      expect(String(error).length).toBeLessThan(900); // two quotations, and the words around them
    });

  test.each([
    ["normalizer", "normalizers"],
    ["pre_tokenizer", "pretokenizers"],
    ["post_processor", "processors"],
    ["decoder", "decoders"],
  ])("sequences in sequences of a %s", async (stage, list) => {
    await expect(tokenizer({ [stage]: nestedSteps(list) })).rejects.toMatchObject({ code: "unsupported" });
  });
});
