// Describes stages in words: what is missing, the quality, the takeover, the waiting time saved.
import type { StageEvent, StageInfo, StagePlan, StageQuality } from "../src/index";
import type { StageProgress } from "./stage-progress";
import { formatBytes, formatSeconds, formatWait } from "./wording";

/** The label of a stage, as used to mark parts of an answer. */
export interface StageLabel {
  /** "Stage A", or another name. */
  readonly title: string;
  /** A short form that fits into a mark. */
  readonly letter: string;
  /** The parts of the model that are present. */
  readonly contents: string;
  readonly color: string;
}

/** A label for each stage. */
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

/** Even steps from the first stage's colour to the whole model's; the style sheet sets both. */
export function stageColor(index: number, stageCount: number): string {
  const percent = stageCount < 2 ? 100 : Math.round((100 * index) / (stageCount - 1));
  return `color-mix(in oklch, var(--stage-first), var(--stage-whole) ${percent}%)`;
}

/** "10 of 16 layers", and the rows if some are missing. */
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

/** A stage's quality and the text it was measured on, if it was measured. */
export function describeQuality(quality: StageQuality | null): { readonly worth: string; readonly measuredOn: string | null } {
  if (!quality) return { worth: "quality not measured", measuredOn: null };
  return { worth: describeWorth(quality), measuredOn: `measured on ${quality.text}` };
}

function describeWorth({ sameFirstChoice, klNats, meanNll }: StageQuality): string {
  if (sameFirstChoice !== undefined) return `first choice as the whole model’s in ${Math.round(100 * sameFirstChoice)} of 100 tokens`;
  if (klNats !== undefined) return `${klNats.toFixed(2)} nats a token from the whole model`;
  return `${meanNll?.toFixed(2)} nats a token`;
}

/** Bytes, the next stage, and when it comes. */
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

/** Smaller differences are not reported. */
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

/** Describes a takeover, including the conversation's K/V if there is a conversation. */
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

/** The stages that wrote a text, in order: "by stage A, then stage B". */
export function describeSpeakers(labels: readonly StageLabel[], stages: readonly number[]): string {
  return stages.length === 0 ? "" : `by ${stages.map((stage) => labels[stage]?.title.replace(/^Stage/, "stage")).join(", then ")}`;
}

/** Describes the bar for screen readers. */
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
