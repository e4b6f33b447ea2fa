// A stage with some of the vocabulary's rows: prompts of any tokens, answers of its own.
import { describe, expect, inject, test } from "vitest";
import type { Engine, LoadOptions } from "../../src/index";
import { largestDifference, planFile, type StageContents } from "../support/stage-plans";
import { evaluateAll, loadTestEngine, readGolden } from "../support/test-model";

// 100 draws; 10,000 in the long suite.
const SEEDS = inject("longSuite") ? 100 : 1;
// Of the prompt, a row at a time.
const DECODED = 24;

// One tied, one with a head apart; rows that are no multiple of anything, and some far from the rest.
const CASES = ["llama3-rope-tied", "llama-gqa"] as const;

async function withRows(
  name: string,
  rows: StageContents["rows"],
  options: LoadOptions,
  use: (engine: Engine) => Promise<void>,
): Promise<void> {
  const { hidden } = await readGolden(`tests/golden/${name}`);
  const layers = Array.from({ length: hidden.length - 1 }, (_, layer) => layer);
  const plan = planFile([{ layers, ...(rows && { rows }) }, { layers }]);
  const shape = { needsTokenizer: false, contextLength: 128, chunkRows: 72, kvFormat: "f32", delivery: "manual" } as const;
  const engine = await loadTestEngine(`tests/golden/${name}`, { ...shape, plan, ...options });
  try {
    await use(engine);
  } finally {
    engine.dispose();
  }
}

describe.each(CASES)("%s with some rows", (name) => {
  const ROWS = [
    [0, 37],
    [101, 102],
    [150, 163],
  ] as const;
  const isPresent = (id: number) => ROWS.some(([start, end]) => id >= start && id < end);

  test("computes any prompt as the whole model does, and gives only present tokens a chance, until the rest has come", async () => {
    const { ids, hidden, logits } = await readGolden(`tests/golden/${name}`);
    const vocabSize = logits.length / ids.length;
    expect(ids.some((id) => !isPresent(id))).toBe(true);
    await withRows(name, ROWS, {}, async (engine) => {
      const staged = await evaluateAll(engine, { ids, chunk: 16, hidden: true });
      for (const [layer, values] of hidden.entries()) {
        expect(largestDifference(staged.hidden[layer] ?? new Float32Array(), values)).toBeLessThanOrEqual(1e-3);
      }
      const expected = logits.map((logit, at) => (isPresent(at % vocabSize) ? logit : Number.NEGATIVE_INFINITY));
      expect(largestDifference(staged.logits, expected)).toBeLessThanOrEqual(1e-3);
      const decode = async () => (await evaluateAll(engine, { ids: ids.slice(0, DECODED), chunk: 1 })).logits;
      const decoded = (all: Float32Array) => all.subarray(0, DECODED * vocabSize);
      expect(largestDifference(await decode(), decoded(expected))).toBeLessThanOrEqual(1e-3);
      await engine.upgrade();
      expect(largestDifference(await decode(), decoded(logits))).toBeLessThanOrEqual(1e-3);
      expect(largestDifference((await evaluateAll(engine, { ids, chunk: 16 })).logits, logits)).toBeLessThanOrEqual(1e-3);
    });
  });

  test("never draws an absent token, however flat the choice", async () => {
    const { ids } = await readGolden(`tests/golden/${name}`);
    await withRows(name, ROWS, {}, async (engine) => {
      const drawn = new Set<number>();
      for (let seed = 0; seed < SEEDS; seed++) {
        const { ids: said } = await engine.generateIds(ids.slice(0, 5), { maxTokens: 100, temperature: 100, seed });
        for (const id of said) drawn.add(id);
      }
      expect([...drawn].filter((id) => !isPresent(id))).toEqual([]);
      expect(drawn.size).toBeGreaterThan(20);
    });
  });
});
