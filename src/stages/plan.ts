// What arrives in which stage, and the consequences for K/V: versions of layers, signatures, boundaries. Plain data and pure decisions.
import { assert, present } from "../assert";
import { fnv1a, hashText } from "../bytes/fnv1a";
import { type RowSet, unionRows } from "../weights/row-set";

/**
 * The smallest thing that can arrive: a layer, or rows of the embedding and of a separate head. Everything else (the final norm) comes with the
 * first stage. Planned further kinds: bit planes ("plane") and maps in place of absent layers ("bypass").
 */
export type Unit = { readonly kind: "layer"; readonly layer: number } | { readonly kind: "rows"; readonly rows: RowSet };

export interface StageQuality {
  /** KL(whole‖stage) in nats a token. */
  readonly klNats?: number;
  /** Share of tokens for which the stage and the whole model have the same first choice, 0 to 1. */
  readonly sameFirstChoice?: number;
  /** Mean negative log-likelihood in nats a token. */
  readonly meanNll?: number;
  /** The text it was measured on. */
  readonly text: string;
}

export interface Stage {
  readonly name: string;
  /** What arrives with this stage, in load order. */
  readonly units: readonly Unit[];
  /** null: not measured. */
  readonly quality: StageQuality | null;
}

export interface PlanShape {
  readonly layerCount: number;
  readonly vocabSize: number;
}

export interface StagePlan extends PlanShape {
  /** Origin: the repository's file, `defaultPlan`, or neither if there is a single stage. */
  readonly source: "file" | "default" | "whole";
  readonly stages: readonly Stage[];
}

/** Quality of the last stage of every plan. */
export const WHOLE_QUALITY: StageQuality = { klNats: 0, sameFirstChoice: 1, text: "the whole model, by definition" };

export function allRows({ vocabSize }: Pick<PlanShape, "vocabSize">): RowSet {
  return [{ start: 0, end: vocabSize }];
}

/** Rows come before layers: a token is looked up before it goes through a layer. */
export function unitsOf(layers: readonly number[], rows: RowSet): Unit[] {
  const layerUnits = layers.map((layer) => ({ kind: "layer", layer }) as const);
  return rows.length > 0 ? [{ kind: "rows", rows }, ...layerUnits] : layerUnits;
}

/** A plan of one stage, the whole model. */
export function wholePlan({ layerCount, vocabSize }: PlanShape): StagePlan {
  const units = unitsOf([...Array(layerCount).keys()], allRows({ vocabSize }));
  return { layerCount, vocabSize, source: "whole", stages: [{ name: "whole", units, quality: WHOLE_QUALITY }] };
}

export interface StageContents {
  readonly layers: ReadonlySet<number>;
  readonly rows: RowSet;
}

/** Everything present at the stage. */
export function stageContents(plan: StagePlan, stageIndex: number): StageContents {
  const units = arrivedUnits(plan, stageIndex);
  return { layers: new Set(layersOf(units)), rows: unionRows(...rowsOfUnits(units)) };
}

/** A version for each layer. Equal versions compute the same; the text has no other meaning. */
export function layerVersions(plan: StagePlan, stageIndex: number): readonly string[] {
  const arrived = new Set(layersOf(arrivedUnits(plan, stageIndex)));
  return Array.from({ length: plan.layerCount }, (_, layer) => (arrived.has(layer) ? "on" : "off"));
}

/**
 * Signature l covers everything that the input of layer l depends on, except the tokens: `root` (the weight files and the K/V format) and the
 * versions of the layers below. So K/V of layer l may be shared if signature l + 1 and the tokens are equal.
 */
export function signatures(root: string, versions: readonly string[]): readonly string[] {
  let hash = fnv1a(textBytes(root));
  const chain = [hash];
  for (const version of versions) {
    hash = fnv1a(textBytes(version), hash);
    chain.push(hash);
  }
  return chain.map(hashText);
}

/** The lowest layer whose version differs; K/V below it stays valid. The number of layers if none differs. */
export function boundaryOf(from: readonly string[], to: readonly string[]): number {
  assert(from.length === to.length, `versions of ${from.length} and of ${to.length} layers`);
  const boundary = from.findIndex((version, layer) => version !== to[layer]);
  return boundary < 0 ? from.length : boundary;
}

/**
 * The boundaries of all upgrades that the plan allows, rising. Upgrades that touch no layer have none. An upgrade that skips stages has the
 * lowest of their boundaries, so it adds none.
 */
export function planBoundaries(plan: StagePlan): readonly number[] {
  const versions = plan.stages.map((_, stageIndex) => layerVersions(plan, stageIndex));
  const boundaries = versions.slice(1).map((to, index) => boundaryOf(present(versions[index], "versions"), to));
  return [...new Set(boundaries)].filter((boundary) => boundary < plan.layerCount).sort((a, b) => a - b);
}

/** The runs of layers between boundaries. Each run is rebuilt or kept as a whole, in every upgrade. */
export function layerGroups(plan: StagePlan): readonly { readonly first: number; readonly end: number }[] {
  const cuts = planBoundaries(plan).filter((boundary) => boundary > 0);
  const ends = [...cuts, plan.layerCount];
  return [0, ...cuts].map((first, index) => ({ first, end: present(ends[index], "end") }));
}

function arrivedUnits(plan: StagePlan, stageIndex: number): Unit[] {
  assert(plan.stages[stageIndex], `stage ${stageIndex} of ${plan.stages.length}`);
  return plan.stages.slice(0, stageIndex + 1).flatMap(({ units }) => units);
}

function layersOf(units: readonly Unit[]): number[] {
  return units.flatMap((unit) => (unit.kind === "layer" ? [unit.layer] : []));
}

function rowsOfUnits(units: readonly Unit[]): RowSet[] {
  return units.flatMap((unit) => (unit.kind === "rows" ? [unit.rows] : []));
}

// A collision would share K/V between stages that differ. A model has a few thousand signatures at most (64 stages, a hundred layers), so any two
// collide with a probability of about 1e-12. An attacker gains nothing by forcing one: the author of a plan is the author of the model.
const END_OF_TEXT = 0xff; // never occurs in UTF-8, so "on" and "off" cannot merge with the next text

function textBytes(text: string): number[] {
  return [...new TextEncoder().encode(text), END_OF_TEXT];
}
