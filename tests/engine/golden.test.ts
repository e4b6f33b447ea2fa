// The engine computes what transformers computes, on every golden case, in both file formats, whatever the chunk size.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Engine, LoadOptions } from "../../src/index";
import { expectGolden } from "../support/expect-close";
import { needsFiles } from "../support/needed-files";
import { evaluateAll, GOLDEN_CASES, loadTestEngine, readGolden } from "../support/test-model";

// Chunks of up to seven rows go through the kernels of decode.
const OPTIONS: LoadOptions = { needsTokenizer: false, contextLength: 128, chunkRows: 72, vectorRows: 7 };
const F32_LIMIT = 1e-3;
// Past the window of the case that has one.
const DECODED = 32;
const F16_KV_LIMIT = 2e-2;
// Rounding K and V to the nearest half, everything else in f64, moves these two by 2.38e-2 and 3.07e-2 (tests/reference/f16-kv.py): no
// engine that stores f16 comes closer than its rounding, so these are held to that and 2 % more.
const F16_KV_ROUNDING: Partial<Record<(typeof GOLDEN_CASES)[number], number>> = { "qwen2-bias": 2.43e-2, "llama3-rope-tied": 3.13e-2 };

for (const name of GOLDEN_CASES) {
  const folder = `tests/golden/${name}`;
  const golden = await readGolden(folder);
  const shared = `../shared/golden/${name}`;
  const needsGguf = await needsFiles(`${shared}/model.gguf`);
  describe(name, () => {
    let engine: Engine;
    beforeAll(async () => {
      engine = await loadTestEngine(folder, { ...OPTIONS, kvFormat: "f32" });
    });
    afterAll(() => engine?.dispose());

    test("logits and residuals are transformers', with K/V in f32", async () => {
      const { logits, hidden } = await evaluateAll(engine, { ids: golden.ids, hidden: true });
      expectGolden(`${name} f32 logits`, logits, golden.logits, F32_LIMIT);
      golden.hidden.forEach((expected, layer) => {
        expectGolden(`${name} f32 residuals`, hidden[layer] ?? [], expected, F32_LIMIT);
      });
    });

    test.each([1, 7, 16])("chunks of %i rows give the same logits", async (chunk) => {
      // Decode takes its time on a software adapter; greedy sampling goes on where these end.
      const ids = chunk === 1 ? golden.ids.slice(0, DECODED) : golden.ids;
      const { logits } = await evaluateAll(engine, { ids, chunk });
      expectGolden(`${name} f32 logits in chunks of ${chunk}`, logits, golden.logits.subarray(0, logits.length), F32_LIMIT);
    });

    test("logits stay close with K/V in f16", async () => {
      using halves = await loadTestEngine(folder, OPTIONS);
      const { logits } = await evaluateAll(halves, { ids: golden.ids });
      expectGolden(`${name} f16 K/V logits`, logits, golden.logits, F16_KV_ROUNDING[name] ?? F16_KV_LIMIT);
    });

    test("greedy sampling goes on as transformers does", async () => {
      const { ids } = await engine.generateIds(golden.ids, { temperature: 0, maxTokens: golden.greedy.length });
      expect(ids).toEqual(golden.greedy);
    });

    // llama.cpp writes no GGUF of it.
    if (name === "mistral-window") return;
    test("the GGUF of the same checkpoint gives the same logits", needsGguf, async () => {
      using gguf = await loadTestEngine(shared, { ...OPTIONS, kvFormat: "f32" }, "model.gguf");
      const { logits } = await evaluateAll(gguf, { ids: golden.ids });
      expectGolden(`${name} GGUF f32 logits`, logits, golden.logits, F32_LIMIT);
    });
  });
}
