// Checks what every plan must satisfy: each layer and each row arrives exactly once, and the first stage can answer.
import { expect } from "vitest";
import type { StagePlan } from "../../../src/stages/plan";
import { countRows, unionRows } from "../../../src/weights/row-set";

export function expectComplete({ stages, layerCount, vocabSize }: StagePlan): void {
  const layersOf = (units: StagePlan["stages"][number]["units"]) => units.flatMap((unit) => (unit.kind === "layer" ? [unit.layer] : []));
  const rowsOf = (units: StagePlan["stages"][number]["units"]) => units.flatMap((unit) => (unit.kind === "rows" ? [unit.rows] : []));
  const names = stages.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
  expect(names).not.toContain("");
  for (const { units } of stages) expect(units.length).toBeGreaterThan(0);

  const layers = stages.flatMap(({ units }) => layersOf(units));
  expect(layers.toSorted((a, b) => a - b)).toEqual([...Array(layerCount).keys()]);
  const rows = stages.flatMap(({ units }) => rowsOf(units));
  for (const arrived of rows) expect(countRows(arrived)).toBeGreaterThan(0);
  expect(rows.reduce((sum, arrived) => sum + countRows(arrived), 0)).toBe(vocabSize);
  expect(unionRows(...rows)).toEqual([{ start: 0, end: vocabSize }]);

  const first = stages[0]?.units ?? [];
  expect(layersOf(first)).not.toHaveLength(0);
  expect(rowsOf(first)).not.toHaveLength(0);
}
