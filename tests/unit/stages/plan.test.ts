import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { boundaryOf, layerGroups, layerVersions, planBoundaries, signatures, stageContents, wholePlan } from "../../../src/stages/plan";
import { countRows } from "../../../src/weights/row-set";
import { expectComplete } from "./expect-complete";
import { randomPlans } from "./random-plans";

const versions = fc.array(fc.constantFrom("on", "off"), { maxLength: 12 });
const versionPairs = fc
  .array(fc.tuple(fc.constantFrom("on", "off"), fc.constantFrom("on", "off")), { maxLength: 12 })
  .map((pairs) => [pairs.map(([from]) => from), pairs.map(([, to]) => to)] as const);

describe("signatures", () => {
  test("of two stages are equal up to the boundary and differ after it", () => {
    fc.assert(
      fc.property(fc.string(), versionPairs, (root, [from, to]) => {
        const boundary = boundaryOf(from, to);
        const a = signatures(root, from);
        const b = signatures(root, to);
        expect(a).toHaveLength(from.length + 1);
        for (let at = 0; at <= from.length; at++) expect(a[at] === b[at], `signature ${at}`).toBe(at <= boundary);
      }),
    );
  });

  test("of two roots differ everywhere", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), fc.string({ unit: "grapheme" }), versions, (root, other, layers) => {
        fc.pre(root !== other);
        const theirs = signatures(other, layers);
        expect(signatures(root, layers).some((signature, at) => signature === theirs[at])).toBe(false);
      }),
    );
  });

  test("are chained: a layer's signature depends only on the one below and its version", () => {
    fc.assert(
      fc.property(versions, fc.constantFrom("on", "off"), (layers, next) => {
        expect(signatures("root", [...layers, next]).slice(0, -1)).toEqual(signatures("root", layers));
      }),
    );
  });

  test("do not depend on where one version ends and the next begins", () => {
    expect(signatures("m", ["a", "bc"])[2]).not.toBe(signatures("m", ["ab", "c"])[2]);
    expect(signatures("mo", ["n"])[1]).not.toBe(signatures("m", ["on"])[1]);
  });

  test("differ for all 4096 subsets of twelve layers", () => {
    const found = new Set<string>();
    for (let bits = 0; bits < 4096; bits++) {
      const layers = Array.from({ length: 12 }, (_, layer) => ((bits >> layer) & 1 ? "on" : "off"));
      for (const signature of signatures("root", layers)) found.add(signature);
    }
    expect(found.size).toBe(2 ** 13 - 1);
  });

  test("never change, because stored snapshots depend on them", () => {
    // FNV-1a computed in Python over the bytes of root and versions, with 0xff after each.
    expect(signatures("model.gguf f16", ["on", "off"])).toEqual(["70480d85787ebf99", "17e690144f4c4d01", "0089e2fa208ece7b"]);
  });
});

test("a boundary is the lowest layer that differs, or the number of layers if none does", () => {
  fc.assert(
    fc.property(versionPairs, ([from, to]) => {
      const differing = from.flatMap((version, layer) => (version === to[layer] ? [] : [layer]));
      expect(boundaryOf(from, to)).toBe(Math.min(from.length, ...differing));
    }),
  );
});

describe("of a plan", () => {
  test("the stages add up to the whole model, and each contains the one before", () => {
    fc.assert(
      fc.property(randomPlans, (plan) => {
        const contents = plan.stages.map((_, stage) => stageContents(plan, stage));
        for (const [stage, { layers, rows }] of contents.entries()) {
          const here = plan.stages[stage]?.units ?? [];
          const before = contents[stage - 1] ?? { layers: new Set<number>(), rows: [] };
          for (const layer of before.layers) expect(layers.has(layer)).toBe(true);
          expect(layers.size - before.layers.size).toBe(here.filter(({ kind }) => kind === "layer").length);
          expect(countRows(rows) - countRows(before.rows)).toBe(
            here.reduce((sum, unit) => sum + (unit.kind === "rows" ? countRows(unit.rows) : 0), 0),
          );
          expect(layerVersions(plan, stage)).toEqual(
            Array.from({ length: plan.layerCount }, (_, layer) => (layers.has(layer) ? "on" : "off")),
          );
        }
        expect(contents.at(-1)?.layers.size).toBe(plan.layerCount);
        expect(contents.at(-1)?.rows).toEqual([{ start: 0, end: plan.vocabSize }]);
      }),
    );
  });

  test("the boundaries are those of all upgrades between two stages, including upgrades that skip stages", () => {
    fc.assert(
      fc.property(randomPlans, (plan) => {
        const found = new Set<number>();
        for (let from = 0; from < plan.stages.length; from++) {
          for (let to = from + 1; to < plan.stages.length; to++) {
            found.add(boundaryOf(layerVersions(plan, from), layerVersions(plan, to)));
          }
        }
        found.delete(plan.layerCount);
        expect(planBoundaries(plan)).toEqual([...found].sort((a, b) => a - b));
      }),
    );
  });

  test("the groups are not empty, cover all layers in order, and meet exactly at the boundaries", () => {
    fc.assert(
      fc.property(randomPlans, (plan) => {
        const groups = layerGroups(plan);
        for (const [index, { first, end }] of groups.entries()) {
          expect(first).toBe(groups[index - 1]?.end ?? 0);
          expect(end).toBeGreaterThan(first);
        }
        expect(groups.at(-1)?.end).toBe(plan.layerCount);
        expect(groups.slice(1).map(({ first }) => first)).toEqual(planBoundaries(plan).filter((boundary) => boundary > 0));
      }),
    );
  });

  test("a whole plan has one stage, one group and no boundary", () => {
    const plan = wholePlan({ layerCount: 3, vocabSize: 10 });
    expectComplete(plan);
    expect(plan.stages.map(({ name }) => name)).toEqual(["whole"]);
    expect(planBoundaries(plan)).toEqual([]);
    expect(layerGroups(plan)).toEqual([{ first: 0, end: 3 }]);
  });

  test("a stage index past the last is refused", () => {
    expect(() => stageContents(wholePlan({ layerCount: 3, vocabSize: 10 }), 1)).toThrow("stage 1 of 1");
  });
});
