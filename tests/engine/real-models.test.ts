// Real chat models, held to what transformers computes from exactly the values that their files store.
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { NegativeLogLikelihood } from "../../src/cli/negative-log-likelihood";
import { readSafetensors } from "../../src/formats/safetensors";
import type { Engine } from "../../src/index";
import { expectGolden } from "../support/expect-close";
import { LONG_SUITE } from "../support/long-test";
import { needsFiles } from "../support/needed-files";
import { readTensorIds, readTensorValues } from "../support/safetensors-values";
import { openTestFile, readTestJson } from "../support/test-files";
import { evaluateAll, loadTestEngine } from "../support/test-model";

interface Reference {
  readonly tokenizer: readonly { readonly text: string; readonly ids: readonly number[]; readonly decoded: string }[];
  readonly texts: readonly { readonly text: string; readonly ids: readonly number[]; readonly mean_nll: number }[];
  readonly chats: readonly {
    readonly messages: readonly { readonly role: "system" | "user" | "assistant"; readonly content: string }[];
    readonly prompt_ids: readonly number[];
    readonly greedy: readonly number[];
    readonly text: string;
  }[];
}

interface RealModel {
  readonly name: string;
  readonly folder: string;
  readonly file: string;
  /** Path of reference JSON and safetensors, without their endings. */
  readonly reference: string;
  /**
   * Of the residuals, relative to a layer's largest. Where every tensor is held exactly f32 tiles are within 2e-6; f16 tiles round each weight
   * to 11 bits and came to 1.04e-4 on an H100.
   */
  readonly residualTolerance: number;
  /** Of the mean NLL, relative: 0.1 % where every tensor is held exactly, 0.5 % where a K-quant is expanded. */
  readonly tolerance: number;
  /** Part of the long suite: a software adapter takes many minutes. */
  readonly isLong?: boolean;
}

const MODELS: readonly RealModel[] = [
  {
    name: "Crescendo 64M",
    folder: "public/models/smollm2-crescendo-64m",
    file: "smollm2-crescendo-64m-q4_0.gguf",
    reference: "tests/references/smollm2-crescendo-64m/reference-stage-C",
    residualTolerance: 2e-4,
    tolerance: 0.001,
  },
  {
    // With the logits of 64 positions, of which the repository has 24.
    name: "Crescendo 64M, all of its reference",
    folder: "public/models/smollm2-crescendo-64m",
    file: "smollm2-crescendo-64m-q4_0.gguf",
    reference: "../shared/models/smollm2-crescendo-64m/reference-stage-C",
    residualTolerance: 2e-4,
    tolerance: 0.001,
    isLong: true,
  },
  {
    name: "SmolLM2-135M-Instruct Q4_1",
    folder: "../shared/models/smollm2-135m-instruct",
    file: "SmolLM2-135M-Instruct.Q4_1.gguf",
    reference: "../shared/models/smollm2-135m-instruct/reference",
    residualTolerance: 2e-4,
    tolerance: 0.001,
  },
  {
    // 491 MB: fetched by hand, never in CI (CONTRIBUTING.md).
    name: "Qwen2.5-Coder-0.5B-Instruct Q4_K_M",
    folder: "models-local",
    file: "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    reference: "../shared/models/qwen2.5-coder-0.5b/reference",
    residualTolerance: 0.02,
    tolerance: 0.005,
    isLong: true,
  },
];

// More than the 16 whose residuals are stored.
const SHORT_POSITIONS = 24;

for (const model of MODELS) {
  const files = await needsFiles(`${model.folder}/${model.file}`, `${model.reference}.json`, `${model.reference}.safetensors`);
  const isLeftOut = Boolean(model.isLong) && !inject("longSuite");
  describe(model.name, isLeftOut ? { ...files, skip: true, meta: { skipReason: LONG_SUITE } } : files, () => {
    let engine: Engine;
    let reference: Reference;

    beforeAll(async () => {
      reference = await readTestJson<Reference>(`${model.reference}.json`);
      engine = await loadTestEngine(model.folder, { contextLength: 256, chunkRows: 128, kvFormat: "f32" }, model.file);
    });
    afterAll(() => engine?.dispose());

    test("its tokenizer gives the reference ids and texts", () => {
      for (const { text, ids, decoded } of reference.tokenizer) {
        expect(engine.tokenizer.encode(text, { addSpecialTokens: false }), text).toEqual(ids);
        expect(engine.tokenizer.decode(ids, { skipSpecialTokens: false }), text).toBe(decoded);
      }
    });

    // An adapter in software reads a few tokens a second: there less is enough, unless CRESCENDO_LONG=1.
    const isShort = () => engine.isSoftware && !inject("longSuite");

    test("the mean NLL of texts is the reference's", async (context) => {
      context.skip(isShort(), `on a software adapter ${LONG_SUITE}`);
      const { vocabSize } = engine.config;
      const { texts } = reference;
      const means = [];
      for (const { ids } of texts) {
        const nll = new NegativeLogLikelihood(ids, vocabSize);
        await engine.evaluate({ ids, onLogits: (firstRow, rows) => nll.add(firstRow, rows) });
        means.push(nll.mean);
      }
      const errors = means.map((mean, i) => mean / (texts[i]?.mean_nll ?? Number.NaN) - 1);
      expectGolden(
        `${model.name} relative NLL`,
        errors,
        errors.map(() => 0),
        model.tolerance,
      );
    });

    test("residuals and logits of the first text are the reference's", async () => {
      const stored = await readSafetensors(await openTestFile(`${model.reference}.safetensors`));
      const text = await readTensorIds(stored, "input_ids");
      const storedPositions = stored.tensors.get("logits")?.shape[0] ?? text.length;
      const ids = text.slice(0, isShort() ? SHORT_POSITIONS : storedPositions);
      const { logits, hidden } = await evaluateAll(engine, { ids, hidden: true });
      const width = engine.config.hiddenSize;
      for (const [layer, values] of hidden.entries()) {
        const expected = await readTensorValues(stored, `hidden.${layer}`);
        const scale = Math.max(1, ...expected.map(Math.abs));
        const scaled = (array: Float32Array) => array.map((value) => value / scale);
        expectGolden(`${model.name} residuals, relative`, scaled(values.slice(0, 16 * width)), scaled(expected), model.residualTolerance);
      }
      if (!stored.tensors.has("logits")) return; // Qwen2's reference holds the 64 highest of each row alone
      // Stored in f16: a logit of 16 to 32 is rounded by up to 0.008.
      const expected = await readTensorValues(stored, "logits");
      expectGolden(`${model.name} logits`, logits, expected.subarray(0, logits.length), 0.02);
    });

    test("greedy chats are the reference's, token for token", async () => {
      const byLength = [...reference.chats].sort((a, b) => a.greedy.length - b.greedy.length);
      const chats = isShort() ? byLength.slice(0, 1) : byLength;
      for (const { messages, prompt_ids, greedy } of chats) {
        const prompt = engine.tokenizer.encode(engine.tokenizer.renderChat(messages), { addSpecialTokens: false });
        expect(prompt).toEqual(prompt_ids);
        const { ids } = await engine.generateIds(prompt, {
          temperature: 0,
          maxTokens: greedy.length,
          stopIds: [...engine.tokenizer.stopIds],
        });
        expect(ids, messages.at(-1)?.content).toEqual(greedy);
      }
    });
  });
}
