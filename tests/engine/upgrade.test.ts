// An upgraded engine is the engine loaded at that stage from the start and fed the same ids: invariants I1 to I9 and I11 of an upgrade.
import { describe, expect, test } from "vitest";
import { type Random, seededRandom } from "../support/random";
import { largestDifference, type StageContents } from "../support/stage-plans";
import { LIMIT, loadedThere, upgradedThere, without } from "../support/staged-engine";
import { readGolden } from "../support/test-model";

const CASES = ["llama-gqa", "mistral-window", "falcon-new-arch", "qwen2-bias"] as const;

type Stages = (layerCount: number) => readonly StageContents[];

const ORDERS: Readonly<Record<string, Stages>> = {
  "that rise": (count) => [without(count, 1, 2), without(count, 2), without(count)],
  "that fall": (count) => [without(count, 1, 2), without(count, 1), without(count)],
  // The first layer is the last to come: no K/V can stay.
  "that fall to the first layer": (count) => [without(count, 0, 1), without(count, 0), without(count)],
};

describe.each(CASES)("%s", (name) => {
  test.each(Object.keys(ORDERS))("with boundaries %s, has after each upgrade the logits of an engine loaded there", async (order) => {
    const { ids, hidden, logits: golden } = await readGolden(`tests/golden/${name}`);
    const stages = ORDERS[order]?.(hidden.length - 1) ?? [];
    const chunk = 16;
    const vocabSize = golden.length / ids.length;
    const logits = await upgradedThere(
      name,
      stages,
      [
        { at: 21, stage: 1, policy: "blocking" },
        { at: 48, stage: 2, policy: "blocking" },
      ],
      ids,
      chunk,
    );
    const part = (all: Float32Array, from: number, to: number) => all.subarray(from * vocabSize, to * vocabSize);
    const spans = [
      [0, 21, 0],
      [21, 48, 1],
      [48, ids.length, 2],
    ] as const;
    for (const [from, to, stage] of spans) {
      const expected = await loadedThere(name, stages, stage, ids, chunk);
      expect(largestDifference(part(logits, from, to), part(expected, from, to)), `stage ${stage}`).toBeLessThanOrEqual(LIMIT);
    }
  });
});

describe("K/V below the boundary", () => {
  test.each(["keep", "restore", "recompute"] as const)(
    "that is carried over by %s gives the logits of an engine loaded there",
    async (carry) => {
      const { ids, hidden, logits: golden } = await readGolden("tests/golden/llama-gqa");
      const stages = ORDERS["that rise"]?.(hidden.length - 1) ?? [];
      const vocabSize = golden.length / ids.length;
      const at = 37; // two full pages and a part of one
      const upgraded = await upgradedThere("llama-gqa", stages, [{ at, stage: 2, policy: "blocking", carry }], ids, 16);
      const expected = await loadedThere("llama-gqa", stages, 2, ids, 16);
      expect(largestDifference(upgraded.subarray(at * vocabSize), expected.subarray(at * vocabSize))).toBeLessThanOrEqual(LIMIT);
    },
  );
});

/** Three or four stages: layers in any order, rows in any portions, never nothing. */
function randomStages(random: Random, layerCount: number, vocabSize: number): StageContents[] {
  const order = [...random.permutation(layerCount)];
  const stageCount = 3 + random.integer(2);
  return Array.from({ length: stageCount }, (_, index) => {
    const isLast = index === stageCount - 1;
    const arrived = isLast ? layerCount : 1 + Math.floor(((layerCount - 1) * index) / (stageCount - 1)) + random.integer(2);
    const rows = isLast ? vocabSize : Math.floor((vocabSize * (index + 1 + random.integer(2))) / (stageCount + 2));
    return { layers: order.slice(0, arrived).sort((a, b) => a - b), rows };
  });
}

test.each([1, 2, 3, 4, 5, 6])(
  "random plan %i: layers and rows in any order, upgrades at any position, also several at once",
  async (seed) => {
    const random = seededRandom(`random plan ${seed}`);
    const name = CASES[seed % CASES.length] ?? "llama-gqa";
    const { ids, hidden, logits: golden } = await readGolden(`tests/golden/${name}`);
    const vocabSize = golden.length / ids.length;
    const stages = randomStages(random, hidden.length - 1, vocabSize);
    const chunk = [1, 7, 16][random.integer(3)] ?? 16;
    // Now and then at a page's edge, or two at one position.
    const positions = stages
      .slice(1)
      .map(() => (random.integer(3) === 0 ? 16 * (1 + random.integer(3)) : 1 + random.integer(ids.length - 2)));
    positions.sort((a, b) => a - b);
    const carry = (["keep", "keep", "restore", "recompute"] as const)[random.integer(4)] ?? "keep";
    const upgrades = positions.map((at, index) => ({ at, stage: index + 1, policy: "blocking" as const, carry }));
    const upgraded = await upgradedThere(name, stages, upgrades, ids, chunk);
    for (const stage of stages.keys()) {
      const [from, to] = [stage === 0 ? 0 : (positions[stage - 1] ?? 0), positions[stage] ?? ids.length];
      if (from === to) continue;
      const expected = await loadedThere(name, stages, stage, ids, chunk);
      const difference = largestDifference(
        upgraded.subarray(from * vocabSize, to * vocabSize),
        expected.subarray(from * vocabSize, to * vocabSize),
      );
      expect(difference, `${name}, stage ${stage} from ${from}, chunk ${chunk}, ${carry}`).toBeLessThanOrEqual(LIMIT);
    }
  },
);
