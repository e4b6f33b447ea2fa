import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { defaultPlan, type ModelShape, type StageOptions } from "../../../src/stages/default-plan";
import { planBoundaries, type StagePlan, stageContents } from "../../../src/stages/plan";
import { Tokenizer } from "../../../src/tokens/tokenizer";
import { countRows, rowsOf, subtractRows } from "../../../src/weights/row-set";
import { expectComplete } from "./expect-complete";

const QWEN_500M: ModelShape = {
  layerCount: 24,
  vocabSize: 151_936,
  layerBytes: new Array<number>(24).fill(10_300_000),
  rowBytes: 1568,
  otherBytes: 3584,
  requiredRows: [{ start: 151_643, end: 151_665 }],
};

const shapes: fc.Arbitrary<ModelShape> = fc
  .record({
    layerBytes: fc.array(fc.integer({ min: 1, max: 30_000_000 }), { minLength: 1, maxLength: 40 }),
    vocabSize: fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 8000, max: 160_000 })),
    rowBytes: fc.integer({ min: 1, max: 3000 }),
    otherBytes: fc.nat(100_000),
    required: fc.array(fc.nat(), { maxLength: 20 }),
  })
  .map(({ required, ...shape }) => ({
    ...shape,
    layerCount: shape.layerBytes.length,
    requiredRows: rowsOf(required.map((row) => row % shape.vocabSize)),
  }));

const sized = shapes.chain((shape) =>
  fc
    .record(
      {
        stageCount: fc.integer({ min: 1, max: 26 }),
        absentLayers: fc.nat(Math.max(0, shape.layerCount - 2)),
        firstStageBytes: fc.integer({ min: 1, max: 1_200_000_000 }),
        stageRows: fc.integer({ min: 1, max: shape.vocabSize }),
      },
      { requiredKeys: [] },
    )
    .map((options) => ({ shape, options })),
);

function firstStageBytes(plan: StagePlan, shape: ModelShape): number {
  const { layers, rows } = stageContents(plan, 0);
  const layerBytes = shape.layerBytes.reduce((sum, bytes, layer) => sum + (layers.has(layer) ? bytes : 0), 0);
  return shape.otherBytes + layerBytes + shape.rowBytes * countRows(rows);
}

/** The layers that the first stage omits. */
function absent(plan: StagePlan): number[] {
  const { layers } = stageContents(plan, 0);
  return [...Array(plan.layerCount).keys()].filter((layer) => !layers.has(layer));
}

describe("every default plan", () => {
  const everyPlan = (holds: (plan: StagePlan, shape: ModelShape, options: StageOptions) => void) =>
    fc.assert(fc.property(sized, ({ shape, options }) => holds(defaultPlan(shape, options), shape, options)));

  test("brings every layer and every row exactly once", () => {
    everyPlan((plan) => expectComplete(plan));
  });

  test("has boundaries that rise from stage to stage", () => {
    everyPlan((plan) => {
      const lowest = plan.stages.slice(1).map(({ units }) => Math.min(...units.map((unit) => (unit.kind === "layer" ? unit.layer : 1000))));
      expect(lowest).toEqual([...lowest].sort((a, b) => a - b));
      expect(planBoundaries(plan)).toEqual(lowest.filter((layer) => layer < 1000));
    });
  });

  test("omits one run of layers, centred on the middle or half a layer before it, never the first or the last", () => {
    everyPlan((plan) => {
      const run = absent(plan);
      fc.pre(run.length > 0);
      const [first = 0] = run;
      const last = run.at(-1) ?? 0;
      expect(last - first + 1).toBe(run.length);
      expect(first).toBeGreaterThan(0);
      expect(last).toBeLessThan(plan.layerCount - 1);
      expect([0, 1]).toContain(plan.layerCount - 1 - (first + last));
    });
  });

  test("has special, control and byte tokens in its first stage, and rows in the order of the file", () => {
    everyPlan((plan, { requiredRows }) => {
      const { rows } = stageContents(plan, 0);
      expect(subtractRows(requiredRows, rows)).toEqual([]);
      expect(rows[0]?.start).toBe(0);
    });
  });

  test("has at most the requested number of stages, and quality only at the last", () => {
    everyPlan(({ stages }, _, { stageCount = 3 }) => {
      expect(stages.length).toBeLessThanOrEqual(stageCount);
      expect(stages.flatMap(({ quality }, index) => (quality ? [index] : []))).toEqual([stages.length - 1]);
    });
  });

  test("keeps its first stage within the requested bytes, or makes it the smallest possible", () => {
    everyPlan((plan, shape, options) => {
      const budget = options.firstStageBytes;
      fc.pre(budget !== undefined && options.stageCount !== 1);
      if (firstStageBytes(plan, shape) <= budget) return;
      const fewestRows = options.stageRows ?? (shape.vocabSize < 16_384 ? shape.vocabSize : 8192);
      const mostLayers = options.absentLayers ?? Math.max(0, Math.min(Math.floor(shape.layerCount / 2), shape.layerCount - 2));
      expect(absent(plan)).toHaveLength(mostLayers);
      const others = subtractRows(shape.requiredRows, [{ start: 0, end: fewestRows }]);
      expect(countRows(stageContents(plan, 0).rows)).toBe(fewestRows + countRows(others));
    });
  });

  test("omits no more than the requested bytes require", () => {
    everyPlan((plan, shape, options) => {
      const { firstStageBytes: budget, stageRows, absentLayers } = options;
      fc.pre(budget !== undefined && options.stageCount !== 1);
      const size = firstStageBytes(plan, shape);
      const { rows } = stageContents(plan, 0);
      if (stageRows === undefined && countRows(rows) < shape.vocabSize) expect(size + 1024 * shape.rowBytes).toBeGreaterThan(budget);
      // With one more layer, even the fewest rows exceed the budget.
      const run = absent(plan);
      fc.pre(absentLayers === undefined && run.length > 0);
      const { firstStageBytes: _, ...others } = options;
      const fewestRows = stageRows ?? (shape.vocabSize < 16_384 ? shape.vocabSize : 8192);
      const fuller = defaultPlan(shape, { ...others, absentLayers: run.length - 1, stageRows: fewestRows });
      expect(firstStageBytes(fuller, shape)).toBeGreaterThan(budget);
    });
  });

  test("has the requested rows and middle run", () => {
    everyPlan((plan, shape, options) => {
      fc.pre(options.stageCount !== 1);
      if (options.absentLayers !== undefined) expect(absent(plan)).toHaveLength(options.absentLayers);
      if (options.stageRows === undefined) return;
      const others = subtractRows(shape.requiredRows, [{ start: 0, end: options.stageRows }]);
      expect(countRows(stageContents(plan, 0).rows)).toBe(options.stageRows + countRows(others));
    });
  });
});

describe("the default plan of a 0.5B model", () => {
  const layersOf = (plan: StagePlan, stage: number) =>
    plan.stages[stage]?.units.flatMap((unit) => (unit.kind === "layer" ? [unit.layer] : []));

  test("starts without three middle layers and with 65,536 rows, then adds these layers, then the other rows", () => {
    const plan = defaultPlan(QWEN_500M);
    expect(plan.source).toBe("default");
    expect(plan.stages.map(({ name }) => name)).toEqual(["A", "B", "C"]);
    expect(stageContents(plan, 0).rows).toEqual([{ start: 0, end: 65_536 }, ...QWEN_500M.requiredRows]);
    expect(absent(plan)).toEqual([10, 11, 12]);
    expect(plan.stages[1]?.units).toEqual([10, 11, 12].map((layer) => ({ kind: "layer", layer })));
    expect(plan.stages[2]?.units.map(({ kind }) => kind)).toEqual(["rows"]);
    expect(planBoundaries(plan)).toEqual([10]);
  });

  test("splits the middle run from below if more stages are requested", () => {
    const plan = defaultPlan(QWEN_500M, { stageCount: 5, absentLayers: 6 });
    expect([1, 2, 3].map((stage) => layersOf(plan, stage))).toEqual([
      [9, 10],
      [11, 12],
      [13, 14],
    ]);
    expect(plan.stages[4]?.units.map(({ kind }) => kind)).toEqual(["rows"]);
  });

  test("adds layers and rows together if two stages are requested", () => {
    const plan = defaultPlan(QWEN_500M, { stageCount: 2 });
    expect(plan.stages[1]?.units.map(({ kind }) => kind)).toEqual(["layer", "layer", "layer", "rows"]);
  });

  test("omits rows before it omits layers", () => {
    const plan = defaultPlan(QWEN_500M, { firstStageBytes: 300_000_000 });
    expect(absent(plan)).toEqual([]);
    expect(countRows(stageContents(plan, 0).rows)).toBe(32_768 + 22);
    expect(absent(defaultPlan(QWEN_500M, { firstStageBytes: 240_000_000 }))).toEqual([11, 12]);
  });

  test("is whole if the budget holds everything or one stage is requested", () => {
    expect(defaultPlan(QWEN_500M, { firstStageBytes: 500_000_000 }).source).toBe("whole");
    expect(defaultPlan(QWEN_500M, { stageCount: 1, absentLayers: 4 }).source).toBe("whole");
  });
});

test("a small vocabulary comes with the first stage, and a model of few layers has no gap", () => {
  const smallVocabulary = defaultPlan({ ...QWEN_500M, vocabSize: 16_383, requiredRows: [] });
  expect(stageContents(smallVocabulary, 0).rows).toEqual([{ start: 0, end: 16_383 }]);
  expect(smallVocabulary.stages).toHaveLength(2);
  expect(absent(defaultPlan({ ...QWEN_500M, layerCount: 7, layerBytes: QWEN_500M.layerBytes.slice(0, 7) }))).toEqual([]);
});

test("a model under 16 MB comes whole unless an option says otherwise", () => {
  const small: ModelShape = { ...QWEN_500M, layerBytes: new Array<number>(24).fill(500_000), rowBytes: 20 };
  expect(defaultPlan(small).source).toBe("whole");
  expect(absent(defaultPlan(small, { absentLayers: 4 }))).toHaveLength(4);
});

test.each<[StageOptions, string]>([
  [{ stageCount: 0 }, "stageCount is 0; expected a whole number from 1 to 26"],
  [{ stageCount: 27 }, "stageCount is 27"],
  [{ stageCount: 2.5 }, "stageCount is 2.5"],
  [{ absentLayers: -1 }, "absentLayers is -1; expected a whole number from 0 to 22 (the first and the last of 24 layers stay)"],
  [{ absentLayers: 23 }, "absentLayers is 23"],
  [{ firstStageBytes: 0 }, "firstStageBytes is 0"],
  [{ firstStageBytes: Number.NaN }, "firstStageBytes is NaN"],
  [{ stageRows: 0 }, "stageRows is 0"],
  [{ stageRows: 151_937 }, "stageRows is 151937; expected a whole number from 1 to 151936"],
])("%j is refused", (options, words) => {
  expect(() => defaultPlan(QWEN_500M, options)).toThrow(
    expect.objectContaining({ code: "bad-request", message: expect.stringContaining(words) }),
  );
});

test("the first stage of a SentencePiece vocabulary writes punctuation, digits, quotes and brackets, though they come last", async () => {
  const text = Array.from({ length: 31_000 }, (_, index) => `▁word${index}`);
  const characters = [...".,:;!?0123456789\"'“”‘’()[]{}<>-—…éß"];
  const tokens = ["<unk>", "<s>", "</s>", ...text, ...characters];
  const metadata = new Map<string, unknown>([
    ["tokenizer.ggml.model", "llama"],
    ["tokenizer.ggml.tokens", tokens],
    ["tokenizer.ggml.token_type", tokens.map((_, id) => (id === 0 ? 2 : id < 3 ? 3 : 1))],
    ["tokenizer.ggml.scores", tokens.map((_, id) => -id)],
    ["tokenizer.ggml.bos_token_id", 1],
    ["tokenizer.ggml.eos_token_id", 2],
  ]);
  const vocabSize = tokens.length;
  const requiredRows = rowsOf((await Tokenizer.fromGguf(metadata)).requiredIds());
  const plan = defaultPlan({ ...QWEN_500M, vocabSize, requiredRows });
  const { rows } = stageContents(plan, 0);
  const isThere = (token: string) => rows.some(({ start, end }) => start <= tokens.indexOf(token) && tokens.indexOf(token) < end);
  expect(characters.filter((character) => !isThere(character))).toEqual([]);
  expect(countRows(rows)).toBeLessThan(vocabSize / 2);
});
