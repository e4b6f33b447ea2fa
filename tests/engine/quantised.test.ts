// Checkpoints in llama.cpp's own quantisations give the logits of the values that they store, within what their expansion adds.
import { describe, expect, test } from "vitest";
import { expectGolden } from "../support/expect-close";
import { needsFiles } from "../support/needed-files";
import { evaluateAll, loadTestEngine, readGolden } from "../support/test-model";

// q8_0 is held exactly. What expansion to q4m and q8 costs here stands in docs/weight-layouts.md; llama.cpp, which rounds activations to
// 8 bits, is 0.65 and 0.60 away on the K-quants.
const LIMITS = { q8_0: 1e-3, q4_k_m: 0.15, q5_k_m: 0.5 } as const;

for (const name of ["q8_0", "q4_k_m", "q5_k_m"] as const) {
  const folder = `../shared/golden/quantised/${name}`;
  describe(name, await needsFiles(`${folder}/model.gguf`, `${folder}/golden.safetensors`), () => {
    test("logits and greedy ids are those of the dequantised values", async () => {
      const golden = await readGolden(folder);
      using engine = await loadTestEngine(
        folder,
        { needsTokenizer: false, contextLength: 128, chunkRows: 72, kvFormat: "f32" },
        "model.gguf",
      );
      const { logits } = await evaluateAll(engine, { ids: golden.ids });
      expectGolden(`quantised ${name} logits`, logits, golden.logits, LIMITS[name]);
      const { ids } = await engine.generateIds(golden.ids, { temperature: 0, maxTokens: golden.greedy.length });
      expect(ids).toEqual(golden.greedy);
    });
  });
}
