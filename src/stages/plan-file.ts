// Reads a repository's plan, progressive.json (docs/progressive-plans.md, docs/progressive.schema.json), and checks everything in it.
import { LlmError } from "../errors";
import { quoted, shortened } from "../quoted";
import { countRows, type RowSet, type RowSpan, rowSet, subtractRows, unionRows } from "../weights/row-set";
import { allRows, type PlanShape, type Stage, type StagePlan, type StageQuality, unitsOf, WHOLE_QUALITY } from "./plan";

export interface PlanFileShape extends PlanShape {
  /** Rows that the first stage holds even if the file omits them: special, control and byte tokens, and single characters. */
  readonly requiredRows: RowSet;
  /** Name of the model's file, if there is a single one. Quality measured on another file says so. */
  readonly modelFile?: string;
}

const FORMAT = "crescendo-progressive";
const VERSION = 1;
// Each stage costs every chat one more upgrade. Plans have three to five stages; an experiment with one stage for each layer still fits.
const MAX_STAGES = 64;
const MAX_NAME_LENGTH = 40; // the name is shown on a badge

/** @throws LlmError "bad-file" naming the place, what was found there and what was expected. */
export function parsePlanFile(json: unknown, shape: PlanFileShape, where: string): StagePlan {
  const file = new Place(json, where, "");
  checkVersion(file);
  file.checkKeys(["format", "version", "model", "stages", "hashes"]);
  const model = file.optional("model")?.text();
  const places = file.child("stages").items();
  if (places.length === 0 || places.length > MAX_STAGES) throw file.child("stages").refusal(`1 to ${MAX_STAGES} stages`);
  const stages = places.map((place) => readStage(place, shape));
  for (const [index, stage] of stages.entries()) checkAfter(stage, stages.slice(0, index));
  checkWhole(stages.at(-1), shape);

  let arrived: { readonly layers: readonly number[]; readonly rows: RowSet } = { layers: [], rows: [] };
  const planned = stages.map(({ place, name, layers, rows, quality }, index): Stage => {
    const now = { layers, rows: unionRows(rows, shape.requiredRows) };
    const newLayers = layers.filter((layer) => !arrived.layers.includes(layer));
    const units = unitsOf(newLayers, subtractRows(now.rows, arrived.rows));
    if (units.length === 0) {
      throw place.refusal("a layer or a row that no earlier stage has (rows of special and byte tokens come with the first)");
    }
    arrived = now;
    const isLast = index === stages.length - 1;
    return { name, units, quality: quality ? fromModel(quality, model, shape.modelFile) : isLast ? WHOLE_QUALITY : null };
  });
  return { layerCount: shape.layerCount, vocabSize: shape.vocabSize, source: "file", stages: planned };
}

function checkVersion(file: Place): void {
  const format = file.child("format");
  if (format.text() !== FORMAT) throw format.refusal(`"${FORMAT}"`);
  const version = file.child("version");
  if (version.number({ low: 1, isWhole: true }) > VERSION) {
    throw version.refusal(`${VERSION}, the newest version that this Crescendo reads. Update Crescendo`);
  }
}

interface StatedStage {
  readonly place: Place;
  readonly name: string;
  /** Layers present at the stage, rising. */
  readonly layers: readonly number[];
  readonly rows: RowSet;
  readonly quality: StageQuality | null;
}

function readStage(place: Place, shape: PlanFileShape): StatedStage {
  place.checkKeys(["name", "layers", "rows", "quality"]);
  const quality = place.optional("quality");
  const rows = place.optional("rows");
  return {
    place,
    name: place.child("name").text(MAX_NAME_LENGTH),
    layers: readLayers(place.child("layers"), shape.layerCount),
    rows: rows ? readRows(rows, shape.vocabSize) : allRows(shape),
    quality: quality ? readQuality(quality) : null,
  };
}

function readLayers(place: Place, layerCount: number): number[] {
  const layers = new Set<number>();
  for (const item of place.items()) {
    const layer = item.number({ low: 0, high: layerCount - 1, isWhole: true });
    if (layers.has(layer)) throw item.refusal("each layer once");
    layers.add(layer);
  }
  if (layers.size === 0) throw place.refusal("at least one layer");
  return [...layers].sort((a, b) => a - b);
}

function readRows(place: Place, vocabSize: number): RowSet {
  if (!Array.isArray(place.value)) return [{ start: 0, end: place.number({ low: 1, high: vocabSize, isWhole: true }) }];
  const spans: RowSpan[] = [];
  for (const item of place.items()) {
    const [start, end, ...rest] = item.items();
    if (!start || !end || rest.length > 0) throw item.refusal("[first row, row after the last]");
    const first = start.number({ low: spans.at(-1)?.end ?? 0, high: vocabSize - 1, isWhole: true });
    spans.push({ start: first, end: end.number({ low: first + 1, high: vocabSize, isWhole: true }) });
  }
  if (spans.length === 0) throw place.refusal("at least one span of rows");
  return rowSet(spans);
}

function readQuality(place: Place): StageQuality {
  place.checkKeys(["klNats", "sameFirstChoice", "meanNll", "text"]);
  const klNats = place.optional("klNats")?.number({ low: 0 });
  const sameFirstChoice = place.optional("sameFirstChoice")?.number({ low: 0, high: 1 });
  const meanNll = place.optional("meanNll")?.number({ low: 0 });
  if (klNats === undefined && sameFirstChoice === undefined && meanNll === undefined) throw place.refusal("at least one figure");
  return {
    ...(klNats !== undefined && { klNats }),
    ...(sameFirstChoice !== undefined && { sameFirstChoice }),
    ...(meanNll !== undefined && { meanNll }),
    text: place.child("text").text(),
  };
}

function checkAfter({ place, name, layers, rows }: StatedStage, earlier: readonly StatedStage[]): void {
  if (earlier.some((stage) => stage.name === name)) throw place.child("name").refusal("a name that no other stage has");
  const before = earlier.at(-1);
  const lostLayer = before?.layers.find((layer) => !layers.includes(layer));
  if (lostLayer !== undefined) throw place.child("layers").refusal(`layer ${lostLayer} as well, because the stage before has it`);
  const [lostRows] = subtractRows(before?.rows ?? [], rows);
  if (lostRows) throw place.child("rows").refusal(`row ${lostRows.start} as well, because the stage before has it`);
}

function checkWhole(last: StatedStage | undefined, { layerCount, vocabSize }: PlanShape): void {
  if (last && last.layers.length < layerCount) {
    throw last.place.child("layers").refusal(`all ${layerCount} layers: the last stage is the whole model`);
  }
  if (last && countRows(last.rows) < vocabSize) {
    throw last.place.child("rows").refusal(`all ${vocabSize} rows: the last stage is the whole model`);
  }
}

/** Marks quality that was measured on another file: a repository may hold several files of one model, quantised differently. */
function fromModel(quality: StageQuality, measured: string | undefined, loaded: string | undefined): StageQuality {
  if (measured === undefined || loaded === undefined || measured === loaded) return quality;
  return { ...quality, text: `${quality.text} (with ${measured})` };
}

/** A value in the file, with its path for messages. */
class Place {
  readonly value: unknown;
  readonly #file: string;
  readonly #path: string;

  constructor(value: unknown, file: string, path: string) {
    this.value = value;
    this.#file = file;
    this.#path = path;
  }

  refusal(expected: string): LlmError {
    return new LlmError("bad-file", `${this.#file}: ${shortened(this.#path) || "the file"} is ${quoted(this.value)}, expected ${expected}`);
  }

  /** The value at `key`. It may be missing; reading it then throws. */
  child(key: string): Place {
    const { value } = this;
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw this.refusal("an object");
    const property: unknown = Reflect.get(value, key);
    return new Place(property, this.#file, this.#path ? `${this.#path}.${key}` : key);
  }

  optional(key: string): Place | null {
    const child = this.child(key);
    return child.value === undefined ? null : child;
  }

  /** Refuses unknown keys: a misspelt key would otherwise be ignored silently. */
  checkKeys(known: readonly string[]): void {
    const unknown = Object.keys(this.value ?? {}).find((key) => !known.includes(key));
    if (unknown !== undefined) throw this.child(unknown).refusal(`no such key: known keys: ${known.join(", ")}`);
  }

  items(): Place[] {
    if (!Array.isArray(this.value)) throw this.refusal("an array");
    return this.value.map((item: unknown, index) => new Place(item, this.#file, `${this.#path}[${index}]`));
  }

  text(maxLength = Number.POSITIVE_INFINITY): string {
    const { value } = this;
    if (typeof value === "string" && value.trim() !== "" && value.length <= maxLength) return value;
    throw this.refusal(maxLength < Number.POSITIVE_INFINITY ? `a text of 1 to ${maxLength} characters` : "a non-empty text");
  }

  number({
    low,
    high = Number.MAX_VALUE,
    isWhole = false,
  }: {
    readonly low: number;
    readonly high?: number;
    readonly isWhole?: boolean;
  }): number {
    const { value } = this;
    if (typeof value === "number" && low <= value && value <= high && (!isWhole || Number.isSafeInteger(value))) return value;
    throw this.refusal(`a ${isWhole ? "whole number" : "number"} of ${high < Number.MAX_VALUE ? `${low} to ${high}` : `at least ${low}`}`);
  }
}
