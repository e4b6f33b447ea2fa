// Derives a plan from a model's shape, for models without one: vocabulary rows are left out first, then one run of middle layers.
// docs/progressive-plans.md has the measurements. The quality of these stages on this model is unknown, so their `quality` is null.
import { assert } from "../assert";
import { LlmError } from "../errors";
import { countRows, type RowSet, subtractRows, unionRows } from "../weights/row-set";
import { allRows, type PlanShape, type Stage, type StagePlan, type Unit, unitsOf, WHOLE_QUALITY, wholePlan } from "./plan";

export interface ModelShape extends PlanShape {
  /** Bytes of each layer in the file. */
  readonly layerBytes: readonly number[];
  /** Bytes of one row of the embedding, plus one of the head if it is a separate matrix. */
  readonly rowBytes: number;
  /** Bytes that the first stage needs in any case. */
  readonly otherBytes: number;
  /** Rows of special, control and byte tokens, and of single characters where they come last. Without them no chat can be written or ended. */
  readonly requiredRows: RowSet;
}

/** Without any option, the plan suits the model's size; a small model comes whole. */
export interface StageOptions {
  /** Maximum number of stages. 1 loads the whole model at once and overrides the other options. Default: one for the middle layers, one for the rows. */
  readonly stageCount?: number;
  /** Middle layers that the first stage omits. Default: an eighth; with `firstStageBytes`, as many as needed, up to a half. */
  readonly absentLayers?: number;
  /** Upper bound of the first stage. If it cannot be met, the first stage is the smallest useful one. */
  readonly firstStageBytes?: number;
  /** Number of the file's first rows in the first stage, in addition to the required ones. */
  readonly stageRows?: number;
}

const MAX_STAGES = 26; // stages are named by letters
const MIN_STAGED_BYTES = 16_000_000; // 13 s at 10 Mbit/s; below that, waiting beats a worse first answer
const MIN_STAGED_LAYERS = 8; // an eighth of fewer layers is less than one layer
const MIN_STAGED_VOCABULARY = 16_384;
// Keeping 65,536 of Qwen2.5's 151,936 rows costs 0.06 to 0.08 nats a token, at most a ninth of the cost of middle layers of as many bytes.
const ROW_SHARE = 0.43;
const ROW_STEP = 1024;
const MIN_ROWS = 8192; // costs 0.7 nats on Qwen2.5; below that, leaving out layers is cheaper

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
  // Layers are left out only if leaving out rows is not enough. Then rows come back, as far as the bytes of a whole layer leave room.
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

/** `count` layers centred on the middle, or half a layer before it. A longer run contains every shorter one. */
function middleRun(layerCount: number, count: number): number[] {
  const first = Math.floor((layerCount - count) / 2);
  return Array.from({ length: count }, (_, index) => first + index);
}

/** Units of the later stages: the middle layers from below, so that each upgrade rebuilds less than the one before, then the rows. */
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
