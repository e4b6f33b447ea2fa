// Arbitrary valid plans for property tests: boundaries rise and fall, layers and rows are mixed.
import fc from "fast-check";
import { type StagePlan, type Unit, WHOLE_QUALITY } from "../../../src/stages/plan";
import { rowsOf } from "../../../src/weights/row-set";

/** Stages in which each layer and each of a few rows arrives. Every stage adds something; the first has a layer and a row. */
export const randomPlans: fc.Arbitrary<StagePlan> = fc
  .record({
    layerStages: fc.array(fc.nat(5), { minLength: 1, maxLength: 12 }),
    rowStages: fc.array(fc.nat(5), { minLength: 1, maxLength: 12 }),
  })
  .map(({ layerStages, rowStages }) => {
    const used = [...new Set([0, ...layerStages, ...rowStages])].sort((a, b) => a - b);
    const first = (stages: readonly number[]) => (stages.includes(0) ? stages : [0, ...stages.slice(1)]);
    const layers = first(layerStages);
    const rows = first(rowStages);
    const at = (stages: readonly number[], stage: number) => stages.flatMap((each, index) => (each === stage ? [index] : []));
    const units = used.map((stage): Unit[] => [
      ...at(layers, stage).map((layer) => ({ kind: "layer", layer }) as const),
      ...(at(rows, stage).length > 0 ? [{ kind: "rows", rows: rowsOf(at(rows, stage)) } as const] : []),
    ]);
    return {
      layerCount: layers.length,
      vocabSize: rows.length,
      source: "file",
      stages: units
        .filter((each) => each.length > 0)
        .map((each, index, { length }) => ({ name: `stage ${index}`, units: each, quality: index === length - 1 ? WHOLE_QUALITY : null })),
    };
  });
