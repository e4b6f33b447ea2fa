// The plan for a model that brings none, from its shape alone: vocabulary rows are left out first, then one run of middle layers.
// docs/progressive-plans.md has the measurements. What such a stage is worth on this model nobody has measured, and the plan says so.
import { assert } from "../assert";
import { LlmError } from "../errors";
import { countRows, type RowSet, subtractRows, unionRows } from "../weights/row-set";
import { allRows, type PlanShape, type Stage, type StagePlan, type Unit, unitsOf, WHOLE_QUALITY, wholePlan } from "./plan";

export interface ModelShape extends PlanShape {
  /** Of each layer, in the file. */
  readonly layerBytes: readonly number[];
  /** Of one row of the embedding and, where it is apart, of the head. */
  readonly rowBytes: number;
  /** Of what comes with the first stage whatever it leaves out. */
  readonly otherBytes: number;
  /** Special, control and byte tokens: without them no chat can be written or ended. */
  readonly requiredRows: RowSet;
}

/** All four left out: what suits the model, which for a small one is to come whole. */
export interface StageOptions {
  /** Stages at most; 1 is the whole model at once, whatever else is asked. Default: one for the middle layers and one for the rows. */
  readonly stageCount?: number;
  /** Middle layers that the first stage goes without. Default: an eighth; within `firstStageBytes`, up to a half as it needs. */
  readonly absentLayers?: number;
  /** The first stage is to be no larger; where that cannot be, it is the smallest that is still of use. */
  readonly firstStageBytes?: number;
  /** The first rows of the file that the first stage holds, beside the required ones. */
  readonly stageRows?: number;
}

const MAX_STAGES = 26; // a letter each
const MIN_STAGED_BYTES = 16_000_000; // 13 s at 10 Mbit/s: less is not worth a worse first answer
const MIN_STAGED_LAYERS = 8; // an eighth of fewer is no layer
const MIN_STAGED_VOCABULARY = 16_384;
// 65,536 of Qwen2.5's 151,936 rows cost 0.06 to 0.08 nats a token, a ninth of what middle layers of as many bytes do, or less.
const ROW_SHARE = 0.43;
const ROW_STEP = 1024;
const MIN_ROWS = 8192; // already 0.7 nats on Qwen2.5: then layers are cheaper

/** @throws LlmError "bad-request" for an option out of range. */
export function defaultPlan(shape: ModelShape, options: StageOptions = {}): StagePlan {
  const { layerCount, vocabSize, layerBytes } = shape;
  assert(layerBytes.length === layerCount, `sizes of ${layerBytes.length} layers, expected ${layerCount}`);
  checkOptions(shape, options);
  const isAsked = Object.values(options).some((value) => value !== undefined);
  if (options.stageCount === 1 || (!isAsked && firstStageSize(shape, 0, vocabSize) < MIN_STAGED_BYTES)) return wholePlan(shape);

  const { absentLayers, rowCount } = firstStage(shape, options);
  const middle = middleRun(layerCount, absentLayers);
  const rows = firstRows(shape, rowCount);
  const additions = laterUnits(middle, subtractRows(allRows(shape), rows), options.stageCount);
  if (additions.length === 0) return wholePlan(shape);
  const outer = [...Array(layerCount).keys()].filter((layer) => !middle.includes(layer));
  const stages = [unitsOf(outer, rows), ...additions].map((units, index): Stage => {
    return { name: String.fromCharCode("A".charCodeAt(0) + index), units, quality: index === additions.length ? WHOLE_QUALITY : null };
  });
  return { layerCount, vocabSize, source: "default", stages };
}

function checkOptions({ layerCount, vocabSize }: ModelShape, options: StageOptions): void {
  const check = (name: keyof StageOptions, low: number, high: number, why: string): void => {
    const value = options[name];
    if (value === undefined || (Number.isInteger(value) && low <= value && value <= high)) return;
    throw new LlmError("bad-request", `${name} is ${value}; expected a whole number from ${low} to ${high} (${why}).`);
  };
  check("stageCount", 1, MAX_STAGES, "stages are named by letters");
  check("absentLayers", 0, mostAbsent(layerCount), `the first and the last of ${layerCount} layers stay`);
  check("firstStageBytes", 1, Number.MAX_SAFE_INTEGER, "bytes of the file");
  check("stageRows", 1, vocabSize, "this model's vocabulary");
}

function mostAbsent(layerCount: number): number {
  return Math.max(0, layerCount - 2);
}

interface FirstStage {
  readonly absentLayers: number;
  readonly rowCount: number;
}

function firstStage(shape: ModelShape, { absentLayers, stageRows, firstStageBytes }: StageOptions): FirstStage {
  const { layerCount, vocabSize } = shape;
  if (firstStageBytes === undefined) {
    return { absentLayers: absentLayers ?? usualAbsentLayers(layerCount), rowCount: stageRows ?? usualRows(vocabSize) };
  }
  const fits = (absent: number, rows: number) => firstStageSize(shape, absent, rows) <= firstStageBytes;
  const fewestRows = stageRows ?? (vocabSize < MIN_STAGED_VOCABULARY ? vocabSize : MIN_ROWS);
  const mostLayers = absentLayers ?? Math.min(Math.floor(layerCount / 2), mostAbsent(layerCount));
  // No layer goes while leaving out rows is enough; then rows come back as far as a whole layer's bytes leave room.
  let absent = absentLayers ?? 0;
  while (absent < mostLayers && !fits(absent, fewestRows)) absent += 1;
  let rowCount = stageRows ?? vocabSize;
  while (rowCount > fewestRows && !fits(absent, rowCount)) rowCount = (Math.ceil(rowCount / ROW_STEP) - 1) * ROW_STEP;
  return { absentLayers: absent, rowCount };
}

function usualAbsentLayers(layerCount: number): number {
  return layerCount < MIN_STAGED_LAYERS ? 0 : Math.round(layerCount / 8);
}

function usualRows(vocabSize: number): number {
  if (vocabSize < MIN_STAGED_VOCABULARY) return vocabSize;
  return Math.max(MIN_ROWS, Math.ceil((vocabSize * ROW_SHARE) / ROW_STEP) * ROW_STEP);
}

function firstStageSize(shape: ModelShape, absentLayers: number, rowCount: number): number {
  const middle = middleRun(shape.layerCount, absentLayers);
  const layerBytes = shape.layerBytes.reduce((sum, bytes, layer) => sum + (middle.includes(layer) ? 0 : bytes), 0);
  return shape.otherBytes + layerBytes + shape.rowBytes * countRows(firstRows(shape, rowCount));
}

function firstRows({ requiredRows }: ModelShape, rowCount: number): RowSet {
  return unionRows([{ start: 0, end: rowCount }], requiredRows);
}

/** `count` layers with their centre at the middle or half a layer before. A longer run holds every shorter one. */
function middleRun(layerCount: number, count: number): number[] {
  const first = Math.floor((layerCount - count) / 2);
  return Array.from({ length: count }, (_, index) => first + index);
}

/** What each later stage brings: the middle from below, so that every upgrade rebuilds less than the one before, then the rows. */
function laterUnits(middle: readonly number[], rows: RowSet, stageCount: number | undefined): Unit[][] {
  const wanted = stageCount === undefined ? 1 : Math.max(1, stageCount - (rows.length > 0 ? 2 : 1));
  const parts = Math.min(wanted, middle.length);
  const cut = (part: number) => Math.floor((part * middle.length) / parts);
  const additions = Array.from({ length: parts }, (_, part) => unitsOf(middle.slice(cut(part), cut(part + 1)), []));
  if (rows.length === 0) return additions;
  const last = additions.at(-1);
  if (last && additions.length + 1 === stageCount) last.push(...unitsOf([], rows));
  else additions.push(unitsOf([], rows));
  return additions;
}
