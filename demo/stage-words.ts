// Stages as people read of them: what one lacks, what it is worth, how it took over, what waiting was spared.
import type { StageEvent, StageInfo, StagePlan, StageQuality } from "../src/index";
import type { StageProgress } from "./stage-progress";
import { formatBytes, formatSeconds, formatWait } from "./wording";

/** A stage as parts of an answer are marked with it. */
export interface StageLabel {
  /** "Stage A", or what else it is called. */
  readonly title: string;
  /** What fits into a mark. */
  readonly letter: string;
  /** What is there of the model. */
  readonly contents: string;
  readonly color: string;
}

/** One for each stage; a model that comes whole has nothing to tell apart. */
export function stageLabels(plan: StagePlan): StageLabel[] {
  return plan.stages.map(({ name }, index) => ({
    title: stageTitle(name),
    letter: name.length <= 2 ? name : String(index + 1),
    contents: describeContents(plan, index),
    color: stageColor(index, plan.stages.length),
  }));
}

export function stageTitle(name: string): string {
  return `Stage ${name}`;
}

/** From the first stage's colour to the whole model's, which the style sheet sets, by even steps. */
export function stageColor(index: number, stageCount: number): string {
  const percent = stageCount < 2 ? 100 : Math.round((100 * index) / (stageCount - 1));
  return `color-mix(in oklch, var(--stage-first), var(--stage-whole) ${percent}%)`;
}

/** "10 of 16 layers"; rows are told of where some are missing. */
export function describeContents(plan: StagePlan, index: number): string {
  const units = plan.stages.slice(0, index + 1).flatMap((stage) => stage.units);
  const layers = units.filter(({ kind }) => kind === "layer").length;
  const rows = units.reduce(
    (sum, unit) => sum + (unit.kind === "rows" ? unit.rows.reduce((all, { start, end }) => all + end - start, 0) : 0),
    0,
  );
  const told = [layers < plan.layerCount ? `${layers} of ${plan.layerCount} layers` : `all ${plan.layerCount} layers`];
  if (rows < plan.vocabSize) told.push(`${formatCount(rows)} of ${formatCount(plan.vocabSize)} vocabulary rows`);
  return told.join(" and ");
}

/** What a stage is worth, and on what that was measured, where somebody has. */
export function describeQuality(quality: StageQuality | null): { readonly worth: string; readonly measuredOn: string | null } {
  if (!quality) return { worth: "quality not measured", measuredOn: null };
  return { worth: describeWorth(quality), measuredOn: `measured on ${quality.text}` };
}

function describeWorth({ sameFirstChoice, klNats, meanNll }: StageQuality): string {
  if (sameFirstChoice !== undefined) return `first choice as the whole model’s in ${Math.round(100 * sameFirstChoice)} of 100 tokens`;
  if (klNats !== undefined) return `${klNats.toFixed(2)} nats a token from the whole model`;
  return `${meanNll?.toFixed(2)} nats a token`;
}

/** Bytes, and what comes next when. */
export function describeDelivery(progress: StageProgress, nowMs: number): string {
  const { coming, landing, stages } = progress;
  const total = formatBytes(progress.totalBytes);
  const parts = [coming ? `${formatBytes(progress.arrivedBytes)} of ${total}` : total];
  const landingStage = landing === null ? undefined : stages[landing];
  const secondsLeft = progress.secondsLeft(nowMs);
  if (progress.isPaused) parts.push("paused");
  else if (landingStage) parts.push(`stage ${landingStage.name} takes over`);
  else if (coming && secondsLeft !== null) parts.push(`stage ${coming.name} in ${formatWait(secondsLeft)}`);
  return parts.join(" · ");
}

type Times = Pick<StageProgress, "answeringMs" | "wholeMs">;

/** Differences below it are no news. */
const NOTABLE_MS = 100;

export function describeTimeSaved(progress: Times): string {
  const { answeringMs, wholeMs } = progress;
  if (answeringMs === null) return "";
  const since = `answering since ${formatSeconds(answeringMs)}`;
  return hasSavedTime(progress) && wholeMs !== null ? `${since}; the whole model would have begun at ${formatSeconds(wholeMs)}` : since;
}

export function hasSavedTime({ answeringMs, wholeMs }: Times): boolean {
  return answeringMs !== null && wholeMs !== null && wholeMs - answeringMs >= NOTABLE_MS;
}

/** How the comparison was made, for those who ask. */
export const TIME_SAVED_BASIS =
  "The whole model would have begun when its last bytes had arrived in this load, less the time in which none came.";

type Takeover = Pick<Extract<StageEvent, { type: "upgrade-end" }>, "stage" | "boundary" | "recomputedPositions">;

/** What became of the conversation's K/V is told where there is one. */
export function describeTakeover(plan: StagePlan, event: Takeover): string {
  const { stage, boundary, recomputedPositions } = event;
  const kept = plan.stages
    .slice(0, stage.index)
    .flatMap(({ units }) => units)
    .filter((unit) => unit.kind === "layer" && unit.layer < boundary).length;
  const rebuilt = recomputedPositions > 0 ? `, the rest rebuilt for ${formatCount(recomputedPositions)} tokens` : "";
  return `${stageTitle(stage.name)} took over here: ${describeContents(plan, stage.index)}, ${describeKept(kept, boundary >= plan.layerCount)}${rebuilt}.`;
}

function describeKept(layers: number, isAll: boolean): string {
  if (isAll) return "all K/V kept";
  if (layers === 0) return "no K/V kept";
  return `K/V of ${layers} ${layers === 1 ? "layer" : "layers"} kept`;
}

/** Who said a text, in the order in which they came: "by stage A, then stage B". */
export function describeSpeakers(labels: readonly StageLabel[], stages: readonly number[]): string {
  return stages.length === 0 ? "" : `by ${stages.map((stage) => labels[stage]?.title.replace(/^Stage/, "stage")).join(", then ")}`;
}

/** What a reader who does not see the bar is told of it. */
export function describeBar(progress: StageProgress): string {
  const percent = progress.totalBytes === 0 ? 0 : Math.floor((100 * progress.arrivedBytes) / progress.totalBytes);
  const arrived = progress.stages.filter((_, index) => progress.arrivedOf(index) >= (progress.stages[index]?.bytes ?? 0)).length;
  return `Layers and vocabulary of the model: ${percent} % have arrived, ${arrived} of ${progress.stages.length} ${progress.stages.length === 1 ? "stage" : "stages"}`;
}

export function describeFailure(stage: StageInfo, answering: StageInfo | undefined): string {
  const goesOn = answering ? ` ${stageTitle(answering.name)} goes on answering.` : "";
  return `${stageTitle(stage.name)} could not be put in place.${goesOn}`;
}

export const RECOVERING = "The graphics device was lost. The model is being put onto another; the conversation goes on.";

export function describeRecovery(recoveryMs: number): string {
  return `The graphics device was lost here, and the model put onto another in ${formatSeconds(recoveryMs)}.`;
}

function formatCount(count: number): string {
  return count.toLocaleString("en");
}
