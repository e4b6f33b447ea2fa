import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { indexUpgrades, parseUpgradeList, stageIndex } from "../../../src/cli/upgrade-list";
import { UsageError } from "../../../src/cli/usage";

const names = ["A", "B", "C"];

/** The message of the refusal. */
function refusal(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof UsageError) return error.message;
    throw error;
  }
  throw new Error("it was taken");
}

describe("a list of upgrades", () => {
  test("is parsed correctly, whatever the names of the stages", () => {
    const name = fc.string({ unit: fc.constantFrom("A", "b", "1", "@", ",", " ", "é", "🌍", "\n"), minLength: 1, maxLength: 8 });
    const upgrade = fc.record({ stage: name.filter((text) => !/@\d+,/.test(text)), at: fc.nat() });
    fc.assert(
      fc.property(fc.array(upgrade, { minLength: 1, maxLength: 4 }), (upgrades) => {
        const text = upgrades.map(({ stage, at }) => `${stage}@${at}`).join(",");
        // A name that begins with a comma would merge with the previous entry.
        fc.pre(upgrades.every(({ stage }) => !stage.startsWith(",")));
        expect(parseUpgradeList(text)).toEqual(upgrades);
      }),
    );
  });

  test.each(["", "B", "B@", "@5", "B@5,", "B@-5", "B@5.5", "B@1e3", "B@5 ", "B@5,C"])("%j is refused", (text) => {
    expect(refusal(() => parseUpgradeList(text))).toContain("STAGE@N");
  });
});

describe("held against a plan", () => {
  const index = (text: string, idCount = 100) => indexUpgrades(parseUpgradeList(text), { names, idCount });

  test("names become the plan's indices", () => {
    expect(index("B@0,C@99")).toEqual([
      { stage: 1, at: 0 },
      { stage: 2, at: 99 },
    ]);
    expect(index("C@7")).toEqual([{ stage: 2, at: 7 }]);
  });

  test.each([
    ["D@5", ["--upgrade", '"D"', '"A", "B", "C"']],
    ["b@5", ['"b"']],
    ["A@5", ["A@5", "first stage"]],
    ["C@5,B@6", ["B@6", "C@5", "stages must rise"]],
    ["B@5,B@6", ["stages must rise"]],
    ["B@5,C@5", ["C@5", "B@5", "numbers of ids must rise"]],
    ["B@6,C@5", ["numbers of ids must rise"]],
    ["B@100", ["B@100", "100 ids", "at most 99"]],
    ["B@5,C@100", ["at most 99"]],
  ])("%s is refused with a reason", (text, words) => {
    const message = refusal(() => index(text));
    for (const word of words) expect(message).toContain(word);
  });

  test("the error for an unknown stage of a whole model hints at --plan", () => {
    expect(refusal(() => stageIndex("--stage", "A", ["whole"]))).toMatch(/--stage.*"A".*"whole".*--plan/);
    expect(refusal(() => stageIndex("--stage", "D", names))).not.toContain("--plan");
  });
});
