// What arrives in which stage, and what follows from it for the K/V: versions of layers, signatures, boundaries. Plain data and decisions.
import { assert, present } from "../assert";
import { fnv1a, hashText } from "../bytes/fnv1a";
import { type RowSet, unionRows } from "../weights/row-set";

/**
 * The smallest thing that can arrive: a layer, or rows of the embedding and, where it is apart, of the head. What belongs to neither (the final
 * norm) comes with the first stage. Bit planes ("plane") and maps in place of absent layers ("bypass") are to become further kinds.
 */
export type Unit = { readonly kind: "layer"; readonly layer: number } | { readonly kind: "rows"; readonly rows: RowSet };

export interface StageQuality {
  /** KL(whole‖stage) in nats a token. */
  readonly klNats?: number;
  /** Share of the tokens for which the stage's first choice is the whole model's, 0 to 1. */
  readonly sameFirstChoice?: number;
  /** Mean negative log-likelihood in nats a token. */
  readonly meanNll?: number;
  /** On what it was measured. */
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
  /** Who made it: the repository's own file, `defaultPlan`, or nobody, where there is one stage only. */
  readonly source: "file" | "default" | "whole";
  readonly stages: readonly Stage[];
}

/** Of the last stage of every plan. */
export const WHOLE_QUALITY: StageQuality = { klNats: 0, sameFirstChoice: 1, text: "the whole model, by definition" };

export function allRows({ vocabSize }: Pick<PlanShape, "vocabSize">): RowSet {
  return [{ start: 0, end: vocabSize }];
}

/** Rows, if any, before layers: no token goes through a layer before it is looked up. */
export function unitsOf(layers: readonly number[], rows: RowSet): Unit[] {
  const layerUnits = layers.map((layer) => ({ kind: "layer", layer }) as const);
  return rows.length > 0 ? [{ kind: "rows", rows }, ...layerUnits] : layerUnits;
}

/** One stage that is everything. */
export function wholePlan({ layerCount, vocabSize }: PlanShape): StagePlan {
  const units = unitsOf([...Array(layerCount).keys()], allRows({ vocabSize }));
  return { layerCount, vocabSize, source: "whole", stages: [{ name: "whole", units, quality: WHOLE_QUALITY }] };
}

export interface StageContents {
  readonly layers: ReadonlySet<number>;
  readonly rows: RowSet;
}

/** What is there once the stage is. */
export function stageContents(plan: StagePlan, stageIndex: number): StageContents {
  const units = arrivedUnits(plan, stageIndex);
  return { layers: new Set(layersOf(units)), rows: unionRows(...rowsOfUnits(units)) };
}

/** For each layer what it computes at the stage, to be compared only. */
export function layerVersions(plan: StagePlan, stageIndex: number): readonly string[] {
  const arrived = new Set(layersOf(arrivedUnits(plan, stageIndex)));
  return Array.from({ length: plan.layerCount }, (_, layer) => (arrived.has(layer) ? "on" : "off"));
}

/**
 * Signature l stands for all that the input of layer l depends on but the tokens: `root`, which names the model's files and how K/V is stored,
 * and the versions of the layers below. So K/V of a layer may be shared where signature l + 1 and the tokens are the same.
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

/** The lowest layer whose version differs: K/V below it stays valid. The number of layers where none does. */
export function boundaryOf(from: readonly string[], to: readonly string[]): number {
  assert(from.length === to.length, `versions of ${from.length} and of ${to.length} layers`);
  const boundary = from.findIndex((version, layer) => version !== to[layer]);
  return boundary < 0 ? from.length : boundary;
}

/**
 * The boundaries of all upgrades that the plan allows, in rising order; those that touch no layer have none. An upgrade that skips stages changes
 * what the skipped ones would have changed, so that its boundary is the lowest of theirs and adds none.
 */
export function planBoundaries(plan: StagePlan): readonly number[] {
  const versions = plan.stages.map((_, stageIndex) => layerVersions(plan, stageIndex));
  const boundaries = versions.slice(1).map((to, index) => boundaryOf(present(versions[index], "versions"), to));
  return [...new Set(boundaries)].filter((boundary) => boundary < plan.layerCount).sort((a, b) => a - b);
}

/** The runs of layers between boundaries: what is rebuilt or kept together, whatever the upgrade. */
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

// Two stages that collided would share K/V that differs. A model has some thousand signatures at most (64 stages, a hundred layers), so that any
// two collide with a chance of about 1e-12. There is nothing to gain by making them: whoever writes a plan writes the model too.
const END_OF_TEXT = 0xff; // no byte of UTF-8: "on" and "off" cannot run into what comes next

function textBytes(text: string): number[] {
  return [...new TextEncoder().encode(text), END_OF_TEXT];
}
