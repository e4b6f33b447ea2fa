import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseStrictJson } from "../../../src/formats/strict-json";
import { planBoundaries, type StagePlan, stageContents, WHOLE_QUALITY } from "../../../src/stages/plan";
import { parsePlanFile } from "../../../src/stages/plan-file";
import { expectComplete } from "./expect-complete";
import { randomPlans } from "./random-plans";

const SHAPE = { layerCount: 4, vocabSize: 100, requiredRows: [] };

/** A plan as its file. */
function written({ stages, ...plan }: StagePlan) {
  return {
    format: "crescendo-progressive",
    version: 1,
    stages: stages.map(({ name, quality }, index) => {
      const { layers, rows } = stageContents({ ...plan, stages }, index);
      return { name, layers: [...layers], rows: rows.map(({ start, end }) => [start, end]), ...(quality && { quality }) };
    }),
  };
}

test("a plan survives being written and read", () => {
  fc.assert(
    fc.property(randomPlans, (plan) => {
      const json = parseStrictJson(JSON.stringify(written(plan)));
      const read = parsePlanFile(json, { ...plan, requiredRows: [] }, "progressive.json");
      expectComplete(read);
      expect(read.stages.map(({ name, quality }, stage) => ({ name, quality, ...stageContents(read, stage) }))).toEqual(
        plan.stages.map(({ name, quality }, stage) => ({ name, quality, ...stageContents(plan, stage) })),
      );
    }),
  );
});

describe("of a plan file", () => {
  const A = { name: "A", layers: [0, 3], rows: 50 };
  const B = { name: "B", layers: [0, 1, 3], rows: 50 };
  const C = { name: "C", layers: [0, 1, 2, 3] };
  const span = (first: number, end: number) => [first, end];
  const file = (...stages: readonly unknown[]) => ({ format: "crescendo-progressive", version: 1, stages });
  const parse = (json: unknown, shape = {}) => parsePlanFile(json, { ...SHAPE, ...shape }, "progressive.json");

  test("required rows come with the first stage, named or not", () => {
    const plan = parse(file(A, B, C), { requiredRows: [{ start: 98, end: 100 }] });
    expectComplete(plan);
    expect(stageContents(plan, 0).rows).toEqual([
      { start: 0, end: 50 },
      { start: 98, end: 100 },
    ]);
    expect(plan.stages[2]?.units).toContainEqual({ kind: "rows", rows: [{ start: 50, end: 98 }] });
  });

  test("units are in load order: rows, then layers from below", () => {
    expect(parse(file({ ...A, layers: [3, 0] }, C)).stages[0]?.units).toEqual([
      { kind: "rows", rows: [{ start: 0, end: 50 }] },
      { kind: "layer", layer: 0 },
      { kind: "layer", layer: 3 },
    ]);
  });

  test("stages without quality count as not measured, and the last one has the quality of the whole model", () => {
    expect(parse(file(A, C)).stages.map(({ quality }) => quality)).toEqual([null, WHOLE_QUALITY]);
  });

  test("quality measured on another file names that file", () => {
    const json = { ...file({ ...A, quality: { klNats: 0.5, text: "ten chats" } }, C), model: "x-q4_0.gguf" };
    const textWith = (shape: object) => parse(json, shape).stages[0]?.quality?.text;
    expect(textWith({ modelFile: "x-q8_0.gguf" })).toBe("ten chats (with x-q4_0.gguf)");
    expect(textWith({ modelFile: "x-q4_0.gguf" })).toBe("ten chats");
    expect(textWith({})).toBe("ten chats");
  });

  const many = Array.from({ length: 65 }, (_, index) => ({ ...C, name: `${index}`, rows: index + 36 }));
  const quality = (value: unknown) => file({ ...A, quality: value }, C);
  test("a plan of 64 stages is accepted", () => {
    expect(parse(file(...many.slice(1))).stages).toHaveLength(64);
  });

  test.each<[string, unknown, string]>([
    ["no object", [], "the file is [], expected an object"],
    ["null", null, "the file is null, expected an object"],
    ["another format", { ...file(A, C), format: "plan" }, 'format is "plan", expected "crescendo-progressive"'],
    ["no format", { version: 1, stages: [C] }, "format is missing"],
    ["a newer version, whatever else is new", { ...file(A, C), version: 2, planes: [] }, "version is 2, expected 1, the newest"],
    ["a version that is none", { ...file(A, C), version: "1" }, 'version is "1", expected a whole number'],
    ["no stages", { format: "crescendo-progressive", version: 1 }, "stages is missing, expected an array"],
    ["an empty list of stages", file(), "stages is [], expected 1 to 64 stages"],
    ["65 stages", file(...many), "expected 1 to 64 stages"],
    ["an unknown key", { ...file(A, C), stage: 1 }, "stage is 1, expected no such key"],
    ["an unknown key in a stage", file({ ...A, row: 5 }, C), "stages[0].row is 5, expected no such key"],
    ["an unknown key in a quality", quality({ kl: 1, text: "t" }), "stages[0].quality.kl is 1, expected no such key"],
    ["a key that every object has", file({ ...A, toString: 1 }, C), "stages[0].toString is 1, expected no such key"],
    ["a model that is no text", { ...file(A, C), model: 3 }, "model is 3, expected a non-empty text"],
    ["a stage that is no object", file(A, "C"), 'stages[1] is "C", expected an object'],
    ["a stage that is a number", file(A, 7), "stages[1] is 7, expected an object"],
    ["no name", file({ layers: [0] }, C), "stages[0].name is missing"],
    ["a blank name", file({ ...A, name: " " }, C), 'stages[0].name is " ", expected a text of 1 to 40 characters'],
    ["a name of 41 characters", file({ ...A, name: "n".repeat(41) }, C), "stages[0].name"],
    ["two stages of one name", file(A, { ...C, name: "A" }), 'stages[1].name is "A", expected a name that no other stage has'],
    ["no layers", file({ name: "A" }, C), "stages[0].layers is missing, expected an array"],
    ["an empty list of layers", file({ ...A, layers: [] }, C), "stages[0].layers is [], expected at least one layer"],
    ["a layer twice", file({ ...A, layers: [0, 1, 0] }, C), "stages[0].layers[2] is 0, expected each layer once"],
    ["a layer out of range", file({ ...A, layers: [0, 4] }, C), "stages[0].layers[1] is 4, expected a whole number of 0 to 3"],
    ["a layer below 0", file({ ...A, layers: [-1] }, C), "stages[0].layers[0] is -1"],
    ["half a layer", file({ ...A, layers: [0.5] }, C), "stages[0].layers[0] is 0.5"],
    ["a layer that is a text", file({ ...A, layers: ["0"] }, C), 'stages[0].layers[0] is "0"'],
    ["a stage that lost a layer", file(B, A, C), "stages[1].layers is [0,3], expected layer 1 as well"],
    ["a stage that lost rows", file(A, { ...B, rows: 40 }, C), "stages[1].rows is 40, expected row 40 as well"],
    ["a stage that brings nothing", file(A, { ...A, name: "B" }, C), "stages[1] is {"],
    ["a last stage that lacks a layer", file(A, { ...B, rows: 100 }), "expected all 4 layers: the last stage is the whole model"],
    ["a last stage that lacks rows", file(A, { ...C, rows: 99 }), "expected all 100 rows: the last stage is the whole model"],
    ["no row", file({ ...A, rows: 0 }, C), "stages[0].rows is 0, expected a whole number of 1 to 100"],
    ["too many rows", file({ ...A, rows: 101 }, C), "stages[0].rows is 101"],
    ["rows that are null", file({ ...A, rows: null }, C), "stages[0].rows is null"],
    ["no spans of rows", file({ ...A, rows: [] }, C), "stages[0].rows is [], expected at least one span of rows"],
    ["a span of one number", file({ ...A, rows: [[0]] }, C), "stages[0].rows[0] is [0], expected [first row, row after the last]"],
    ["a span of three numbers", file({ ...A, rows: [[0, 1, 2]] }, C), "stages[0].rows[0] is [0,1,2]"],
    ["an empty span", file({ ...A, rows: [[5, 5]] }, C), "stages[0].rows[0][1] is 5, expected a whole number of 6 to 100"],
    [
      "spans that overlap",
      file({ ...A, rows: [span(0, 8), span(7, 9)] }, C),
      "stages[0].rows[1][0] is 7, expected a whole number of 8 to 99",
    ],
    ["a span past the last row", file({ ...A, rows: [[90, 101]] }, C), "stages[0].rows[0][1] is 101"],
    ["a quality that is a number", quality(0.2), "stages[0].quality is 0.2, expected an object"],
    ["a quality without its text", quality({ klNats: 0.2 }), "stages[0].quality.text is missing"],
    ["a quality without a figure", quality({ text: "t" }), 'stages[0].quality is {"text":"t"}, expected at least one figure'],
    ["a negative divergence", quality({ klNats: -1, text: "t" }), "stages[0].quality.klNats is -1"],
    ["a share above 1", quality({ sameFirstChoice: 84, text: "t" }), "stages[0].quality.sameFirstChoice is 84"],
    ["a figure that is a text", quality({ meanNll: "1", text: "t" }), 'stages[0].quality.meanNll is "1"'],
  ])("%s is refused", (_, json, words) => {
    expect(() => parse(json)).toThrow(
      expect.objectContaining({
        code: "bad-file",
        message: expect.stringMatching(/^progressive\.json: .*, expected /),
      }),
    );
    expect(() => parse(json)).toThrow(words);
  });

  test("a stage that adds only rows that already came as required ones is refused", () => {
    const json = file(
      A,
      {
        ...A,
        name: "B",
        rows: [span(0, 50), span(98, 100)],
      },
      C,
    );
    expect(() => parse(json, { requiredRows: [{ start: 98, end: 100 }] })).toThrow("rows of special and byte tokens come with the first");
  });
});

describe("the embedded model's plan", () => {
  const json: unknown = parseStrictJson(readFileSync("public/models/smollm2-crescendo-64m/progressive.json", "utf8"));
  const shape = { layerCount: 16, vocabSize: 12_288, requiredRows: [{ start: 0, end: 20 }], modelFile: "smollm2-crescendo-64m-q4_0.gguf" };

  test("has stages A, B and C, all rows from the first on, and boundaries 4 and 8", () => {
    const plan = parsePlanFile(json, shape, "progressive.json");
    expectComplete(plan);
    expect(plan.stages.map(({ name }) => name)).toEqual(["A", "B", "C"]);
    expect(plan.stages.map(({ units }) => units.flatMap((unit) => (unit.kind === "layer" ? [unit.layer] : [])))).toEqual([
      [0, 1, 2, 3, 14, 15],
      [4, 5, 6, 7],
      [8, 9, 10, 11, 12, 13],
    ]);
    expect(stageContents(plan, 0).rows).toEqual([{ start: 0, end: 12_288 }]);
    expect(planBoundaries(plan)).toEqual([4, 8]);
    expect(plan.stages.map(({ quality }) => quality?.klNats)).toEqual([0.238, 0.143, 0]);
    for (const { quality } of plan.stages) expect(quality?.text).toBe("192 held-out chats written by Qwen2.5-Coder-1.5B");
  });

  // Only the parts of the schema that are compared here; `$defs` and the root have the same form.
  interface ObjectSchema {
    readonly required: readonly string[];
    readonly properties: Readonly<Record<string, { readonly type?: string; readonly const?: unknown }>>;
    readonly additionalProperties: boolean;
    readonly $defs: Readonly<Record<"stage" | "quality", ObjectSchema>>;
  }
  const schema: ObjectSchema = JSON.parse(readFileSync("docs/progressive.schema.json", "utf8"));

  /** Each object that the schema describes, with a function that changes a key in a copy of the plan. */
  function placesOf(copy: Record<string, unknown>) {
    const [stage] = copy.stages as [Record<string, unknown>];
    return [
      { name: "file", object: copy, described: schema },
      { name: "stage", object: stage, described: schema.$defs.stage },
      { name: "quality", object: stage.quality as Record<string, unknown>, described: schema.$defs.quality },
    ];
  }

  test("may omit exactly the keys that the schema does not require, and has no unknown key", () => {
    for (const [place, { name, object, described }] of placesOf(json as Record<string, unknown>).entries()) {
      expect(described.additionalProperties, name).toBe(false);
      for (const key of Object.keys(described.properties)) {
        const copy = structuredClone(json) as Record<string, unknown>;
        delete placesOf(copy)[place]?.object[key];
        const read = () => parsePlanFile(copy, shape, "progressive.json");
        if (described.required.includes(key)) expect(read, `${name} without ${key}`).toThrow("is missing");
        else expect(read, `${name} without ${key}`).not.toThrow();
      }
      for (const key of Object.keys(object)) expect(Object.keys(described.properties), name).toContain(key);
    }
  });
});
