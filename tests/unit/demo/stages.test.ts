// How the demo page shows a model's stages: the bar, the words, and which stage wrote what.
import { expect, test } from "vitest";
import { readLinkSpeed, writeLinkSpeed } from "../../../demo/link-speed";
import { readPlan } from "../../../demo/model-choice";
import { cellFills, stageCells } from "../../../demo/stage-bar";
import { StageProgress } from "../../../demo/stage-progress";
import { drawnOffset, StageRuns } from "../../../demo/stage-runs";
import {
  describeContents,
  describeDelivery,
  describeQuality,
  describeSpeakers,
  describeTakeover,
  describeTimeSaved,
  stageColor,
  stageLabels,
} from "../../../demo/stage-words";
import type { EngineEvent, StageInfo, StagePlan, Unit } from "../../../src/index";

const MB = 1_000_000;
const layers = (...indices: number[]): Unit[] => indices.map((layer) => ({ kind: "layer", layer }));
const rows = (start: number, end: number): Unit => ({ kind: "rows", rows: [{ start, end }] });

/** Eight layers of 2 MB, 1,000 rows of 4 kB: A has layers 0, 1, 6, 7 and 400 rows, B layers 2 to 5, C the other rows. */
const PLAN: StagePlan = {
  layerCount: 8,
  vocabSize: 1000,
  source: "default",
  stages: [
    { name: "A", units: [rows(0, 400), ...layers(0, 1, 6, 7)], quality: null },
    { name: "B", units: layers(2, 3, 4, 5), quality: null },
    { name: "C", units: [rows(400, 1000)], quality: { klNats: 0, sameFirstChoice: 1, text: "the whole model, by definition" } },
  ],
};
const BYTES = [9.6 * MB, 8 * MB, 2.4 * MB];
const STAGES: readonly StageInfo[] = PLAN.stages.map(({ name, quality }, index) => ({ index, name, quality, bytes: BYTES[index] ?? 0 }));
const stage = (index: number) => STAGES[index] as StageInfo;

const received = (bytes: number): EngineEvent => ({ type: "bytes-received", source: "model.gguf", bytes, origin: "network" });
const loaded = (loadedBytes: number): EngineEvent => ({ type: "load-progress", loadedBytes, totalBytes: 20 * MB });
const ready = (index: number): EngineEvent => ({ type: "stage-ready", stage: stage(index), isLast: index === 2 });
const started = (index: number): EngineEvent => ({ type: "upgrade-start", stage: stage(index), policy: "background" });
const failed = (index: number): EngineEvent => ({ type: "upgrade-failed", stage: stage(index), error: new Error("no network") });

function planned(): StageProgress {
  const progress = new StageProgress(0);
  progress.take(received(3 * MB), 0); // headers and vocabulary
  progress.take({ type: "stages-planned", stages: STAGES, plan: PLAN }, 0);
  return progress;
}

/** Sends bytes over the network and to the GPU, at 1 MB a second, in steps of 0.1 s. */
function stream(progress: StageProgress, fromMb: number, toMb: number, startMs: number): number {
  const steps = Math.round((toMb - fromMb) * 10);
  for (let step = 1; step <= steps; step++) {
    progress.take(received(MB / 10), startMs + 100 * step);
    progress.take(loaded((fromMb + step / 10) * MB), startMs + 100 * step);
  }
  return startMs + 100 * steps;
}

test("the bar has a cell for each layer, in order, and one for the rows with a part for each stage that adds some", () => {
  const cells = stageCells(PLAN, STAGES);
  expect(cells.map(({ layer, stage }) => [layer, stage])).toEqual([
    [null, 0],
    [null, 2],
    [0, 0],
    [1, 0],
    [2, 1],
    [3, 1],
    [4, 1],
    [5, 1],
    [6, 0],
    [7, 0],
  ]);
});

test("the rows' cell is proportional to their bytes, or has a fixed width if the stages do not determine it", () => {
  const width = (plan: StagePlan, stages: readonly StageInfo[]) =>
    stageCells(plan, stages).reduce((sum, cell) => sum + (cell.layer === null ? cell.width : 0), 0);
  expect(width(PLAN, STAGES)).toBeCloseTo(2);
  const heavy = STAGES.map((info) => ({ ...info, bytes: [8 * MB + 8 * MB, 8 * MB, 12 * MB][info.index] ?? 0 }));
  expect(width(PLAN, heavy)).toBeCloseTo(8); // 10 by their bytes: no more than half the bar
  const whole: StagePlan = {
    ...PLAN,
    source: "whole",
    stages: [{ name: "whole", units: [rows(0, 1000), ...layers(0, 1, 2, 3, 4, 5, 6, 7)], quality: null }],
  };
  expect(width(whole, [{ index: 0, name: "whole", quality: null, bytes: 20 * MB }])).toBe(3);
});

test("cells fill one after the other, with the bytes of their own stage only", () => {
  const progress = planned();
  const fills = () => cellFills(stageCells(PLAN, STAGES), progress).map((fill) => Number(fill.toFixed(2)));
  expect(fills()).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  stream(progress, 0, 4.6, 0);
  expect(fills()).toEqual([1, 0, 1, 0.5, 0, 0, 0, 0, 0, 0]);
  progress.take(ready(0), 10_000);
  expect(fills()).toEqual([1, 0, 1, 1, 0, 0, 0, 0, 1, 1]);
  stream(progress, 9.6, 14.6, 10_000);
  expect(fills()).toEqual([1, 0, 1, 1, 1, 1, 0.5, 0, 1, 1]);
  progress.take(started(2), 20_000);
  expect(fills()).toEqual([1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
});

test("repeated bytes never overfill a stage or start the next one", () => {
  const progress = planned();
  progress.take(received(30 * MB), 100);
  expect(progress.arrivedBytes).toBe(9.6 * MB);
  expect(progress.coming?.name).toBe("A");
});

test("a failure discards what arrived after the current stage, and those bytes count again when reloaded", () => {
  const progress = planned();
  stream(progress, 0, 9.6, 0);
  progress.take(ready(0), 10_000);
  stream(progress, 9.6, 14.6, 10_000);
  progress.take(failed(1), 15_000);
  expect(progress.failure).toEqual({ stage: stage(1), reason: "no network" });
  expect(progress.arrivedBytes).toBe(9.6 * MB);
  progress.retry();
  expect(progress.failure).toBeNull();
  stream(progress, 14.6, 22.6, 20_000); // the engine's own count goes on
  expect(progress.arrivedBytes).toBe(17.6 * MB);
  expect(progress.coming?.name).toBe("C");
});

test("the time to the next stage follows the speed of the connection, and is hidden while paused", () => {
  const progress = planned();
  stream(progress, 0, 9.6, 0);
  progress.take(ready(0), 10_000);
  stream(progress, 9.6, 12.6, 10_000);
  expect(describeDelivery(progress, 13_000)).toBe("12.6 MB of 20.0 MB · stage B in about 5 s");
  progress.take({ type: "delivery-paused" }, 13_000);
  expect(describeDelivery(progress, 60_000)).toBe("12.6 MB of 20.0 MB · paused");
  progress.take({ type: "delivery-resumed" }, 60_000);
  stream(progress, 12.6, 13.6, 60_000);
  expect(describeDelivery(progress, 61_000)).toBe("13.6 MB of 20.0 MB · stage B in about 4 s");
  progress.take(started(1), 66_000);
  expect(describeDelivery(progress, 66_000)).toBe("17.6 MB of 20.0 MB · stage B takes over");
});

test("the time saved runs from the first answer to the last byte, without idle time", () => {
  const progress = planned();
  stream(progress, 0, 9.6, 0);
  progress.take(ready(0), 12_600); // kernels took 3 s more to compile
  expect(describeTimeSaved(progress)).toBe("answering since 13 s");
  progress.take({ type: "delivery-paused" }, 12_600);
  progress.take({ type: "delivery-resumed" }, 60_000);
  stream(progress, 9.6, 20, 60_000);
  progress.take(started(2), 80_000);
  progress.take(ready(2), 90_000);
  expect(progress.isLanded).toBe(true);
  expect(describeTimeSaved(progress)).toBe("answering since 13 s; the whole model would have begun at 20 s");
});

test("a single stage saves no time, and a failure claims none", () => {
  const [only] = STAGES;
  const whole = new StageProgress(1000);
  whole.take({ type: "stages-planned", stages: [stage(0)], plan: { ...PLAN, stages: PLAN.stages.slice(0, 1) } }, 1000);
  whole.take({ type: "stage-ready", stage: only as StageInfo, isLast: true }, 6300);
  expect(describeTimeSaved(whole)).toBe("answering since 5.3 s");
  const progress = planned();
  progress.take(loaded(9.6 * MB), 4000);
  progress.take(ready(0), 5000);
  progress.take(failed(1), 6000);
  stream(progress, 9.6, 20, 6000);
  progress.take(ready(2), 30_000);
  expect(describeTimeSaved(progress)).toBe("answering since 5.0 s");
});

test("a stage overtaken by a later one leaves no trace, whatever the order of their events", () => {
  const superseded: EngineEvent = { type: "upgrade-superseded", stage: stage(1), by: stage(2) };
  for (const events of [
    [started(1), started(2), superseded, ready(2)],
    [started(1), started(2), ready(2), superseded],
  ]) {
    const progress = planned();
    progress.take(ready(0), 1000);
    for (const event of events) progress.take(event, 2000);
    expect(progress.isLanded).toBe(true);
    expect(progress.landing).toBeNull();
  }
});

test("bytes reread for a new device do not count for the next stage, which starts at zero", () => {
  const progress = planned();
  stream(progress, 0, 9.6, 0);
  progress.take(ready(0), 10_000);
  stream(progress, 9.6, 12.6, 10_000);
  progress.take({ type: "device-lost", reason: "a driver's reset" }, 13_000);
  expect(progress.isRecovering).toBe(true);
  progress.take(received(9.6 * MB), 14_000);
  expect(progress.arrivedBytes).toBe(12.6 * MB);
  progress.take({ type: "device-restored", stage: stage(0), adapter: "some card", recoveryMs: 2000 }, 15_000);
  expect(progress.isRecovering).toBe(false);
  expect(progress.arrivedBytes).toBe(9.6 * MB);
  progress.take(received(2 * MB), 16_000); // the engine no longer tells what is on the GPU
  expect(progress.arrivedBytes).toBe(11.6 * MB);
});

test("a stage is described by its missing layers and rows", () => {
  expect(describeContents(PLAN, 0)).toBe("4 of 8 layers and 400 of 1,000 vocabulary rows");
  expect(describeContents(PLAN, 1)).toBe("all 8 layers and 400 of 1,000 vocabulary rows");
  expect(describeContents(PLAN, 2)).toBe("all 8 layers");
});

test("a stage's quality is shown with its text, or as not measured", () => {
  expect(describeQuality(null)).toEqual({ worth: "quality not measured", measuredOn: null });
  const text = "192 chats";
  expect(describeQuality({ sameFirstChoice: 0.839, klNats: 0.24, text })).toEqual({
    worth: "first choice as the whole model’s in 84 of 100 tokens",
    measuredOn: "measured on 192 chats",
  });
  expect(describeQuality({ klNats: 0.238, text }).worth).toBe("0.24 nats a token from the whole model");
});

test("a takeover shows what arrived and what happened to the conversation's K/V", () => {
  expect(describeTakeover(PLAN, { stage: stage(1), boundary: 2, recomputedPositions: 57 })).toBe(
    "Stage B took over here: all 8 layers and 400 of 1,000 vocabulary rows, K/V of 2 layers kept, the rest rebuilt for 57 tokens.",
  );
  expect(describeTakeover(PLAN, { stage: stage(2), boundary: 8, recomputedPositions: 0 })).toBe(
    "Stage C took over here: all 8 layers, all K/V kept.",
  );
  const keptBelow = (boundary: number) => describeTakeover(PLAN, { stage: stage(1), boundary, recomputedPositions: 0 });
  expect(keptBelow(1)).toContain(", K/V of 1 layer kept.");
  expect(keptBelow(0)).toContain(", no K/V kept.");
});

test("a stage has a letter, or a number if its name is long, and a colour between those of the first and last stage", () => {
  const named = { ...PLAN, stages: PLAN.stages.map((each, index) => (index === 1 ? { ...each, name: "middle layers" } : each)) };
  expect(stageLabels(named).map(({ letter }) => letter)).toEqual(["A", "2", "C"]);
  expect([0, 1, 2].map((index) => /(\d+)%/.exec(stageColor(index, 3))?.[1])).toEqual(["0", "50", "100"]);
});

test("the stages that wrote a text are named in order", () => {
  expect(describeSpeakers(stageLabels(PLAN), [0, 2])).toBe("by stage A, then stage C");
  expect(describeSpeakers(stageLabels(PLAN), [])).toBe("");
});

test("a stage's run lasts until another stage's first letter", () => {
  const runs = new StageRuns();
  for (const [piece, by] of [
    ["The sea", 0],
    [" is", 0],
    ["\n\n", 1],
    ["  deep", 1],
    [".", 2],
    ["", 2],
  ] as const)
    runs.add(piece, by);
  expect(runs.within(0, 100)).toEqual([
    { stage: 0, start: 0, end: 14 },
    { stage: 1, start: 14, end: 18 },
    { stage: 2, start: 18, end: 19 },
  ]);
  expect(runs.within(4, 16)).toEqual([
    { stage: 0, start: 4, end: 14 },
    { stage: 1, start: 14, end: 16 },
  ]);
  expect(runs.changesWithin(0, 18).map(({ stage }) => stage)).toEqual([1]);
  expect(runs.stages).toEqual([0, 1, 2]);
});

test("an offset in Markdown is found in the rendered text", () => {
  const markdown = "Some **bold** words, a [link](https://example.org/a/b) and `code` &amp; more";
  const drawn = "Some bold words, a link and code & more";
  for (const word of ["Some", "bold", "words", "link", "code", "more"]) {
    expect(drawn.slice(drawnOffset(drawn, markdown, markdown.indexOf(word)))).toMatch(new RegExp(`^${word}`));
  }
  expect(drawnOffset("naïve idea", "na&iuml;ve idea", 10)).toBe(5); // the letter that an entity stands for is passed over
  expect(drawnOffset("é end", `&eacute; end ${"-".repeat(300)} é`, 9)).toBe(2); // nor is it sought far away
  const table = "| a | b |\n| - | - |\n| c | d |";
  expect(drawnOffset("\n\na\nb\n\n\nc\nd\n", table, table.indexOf("b"))).toBe(4);
  expect(drawnOffset(drawn, markdown, markdown.length)).toBe(drawn.length);
});

test("the address sets the link speed and the whole model, and ignores nonsense", () => {
  const address = (query: string) => new URL(`https://example.org/demo/${query}`);
  expect(["?link=10", "?link=8.5", "?link=", "?link=fast", "?link=-1", ""].map((query) => readLinkSpeed(address(query)))).toEqual([
    10,
    8.5,
    null,
    null,
    null,
    null,
  ]);
  expect(String(writeLinkSpeed(address("?model=a/b"), 25))).toBe("https://example.org/demo/?model=a%2Fb&link=25");
  expect(String(writeLinkSpeed(address("?link=25"), null))).toBe("https://example.org/demo/");
  expect(["?plan=whole", "?plan=auto", "?plan=x"].map((query) => readPlan(address(query)))).toEqual(["whole", "auto", "auto"]);
});
