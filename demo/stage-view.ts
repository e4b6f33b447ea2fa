// The model's stages, above the conversation: a bar that fills, the current stage with its quality, and what comes next and when. When all stages
// are in use, one line remains.
import { element, make, oncePerFrame, setText } from "./dom";
import type { ModelState } from "./model-host";
import { cellFills, type StageCell, stageCells } from "./stage-bar";
import { stageMark } from "./stage-marks";
import type { StageProgress } from "./stage-progress";
import {
  describeBar,
  describeContents,
  describeDelivery,
  describeFailure,
  describeQuality,
  describeTimeSaved,
  hasSavedTime,
  RECOVERING,
  stageColor,
  stageLabels,
  stageTitle,
  TIME_SAVED_BASIS,
} from "./stage-words";
import { formatBytes } from "./wording";

const REDRAW_MS = 250;

export class StageView {
  readonly #root = element("stages", HTMLElement);
  readonly #bar = element("stage-bar", HTMLElement);
  readonly #headline = element("stage-headline", HTMLElement);
  readonly #delivery = element("stage-delivery", HTMLElement);
  readonly #pause = element("stage-pause", HTMLButtonElement);
  readonly #more = element("stage-more", HTMLButtonElement);
  readonly #list = element("stage-list", HTMLElement);
  readonly #trouble = element("stage-trouble", HTMLElement);
  readonly #troubleText = element("stage-trouble-text", HTMLElement);
  readonly #retry = element("stage-retry", HTMLButtonElement);
  #progress: StageProgress | null = null;
  #isReady = false;
  #cells: readonly StageCell[] = [];
  #timer: ReturnType<typeof setInterval> | undefined;
  readonly #redraw = oncePerFrame(() => this.#draw());

  constructor({ onPause, onResume }: { onPause: () => void; onResume: () => void }) {
    this.#pause.addEventListener("click", () => (this.#progress?.isPaused ? onResume() : onPause()));
    this.#retry.addEventListener("click", () => {
      onResume();
      this.refresh();
    });
    this.#more.addEventListener("click", () => this.#open(this.#more.ariaExpanded === "false"));
  }

  show(state: ModelState): void {
    const progress = state.kind === "failed" ? null : state.stages;
    if (progress !== this.#progress) this.#open(false);
    this.#progress = progress;
    this.#isReady = state.kind === "ready";
    this.refresh();
  }

  /** Redraws after a stage event: the plan is known, another stage answers, the visitor paused. */
  refresh(): void {
    clearInterval(this.#timer);
    const { plan = null, isLanded = false } = this.#progress ?? {};
    this.#root.hidden = plan === null;
    if (!plan || !this.#progress) {
      this.#cells = [];
      this.#bar.replaceChildren();
      return;
    }
    if (this.#cells.length === 0) this.#makeCells(this.#progress);
    this.#showStage(this.#progress);
    this.#redraw();
    if (!isLanded) this.#timer = setInterval(this.#redraw, REDRAW_MS);
  }

  #open(isOpen: boolean): void {
    this.#list.hidden = !isOpen;
    this.#more.ariaExpanded = String(isOpen);
    this.#root.classList.toggle("is-open", isOpen);
  }

  #makeCells({ plan, stages }: StageProgress): void {
    if (!plan) return;
    this.#cells = stageCells(plan, stages);
    const cells = this.#cells.map(({ layer, stage, width }) => {
      const cell = make("span", layer === null ? "stage-cell is-rows" : "stage-cell");
      cell.style.flexGrow = String(width);
      cell.style.setProperty("--stage-color", stageColor(stage, stages.length));
      cell.title = `${layer === null ? "Vocabulary rows" : `Layer ${layer + 1}`}: ${stageTitle(stages[stage]?.name ?? "").toLowerCase()}`;
      return cell;
    });
    this.#bar.replaceChildren(...cells);
  }

  /** Draws what changes only with a stage. */
  #showStage(progress: StageProgress): void {
    const { stages, answering, failure, isPaused, isLanded, isRecovering } = progress;
    this.#root.classList.toggle("is-landed", isLanded);
    for (const [index, { stage }] of this.#cells.entries()) {
      this.#bar.children[index]?.classList.toggle("is-in-use", stage <= answering);
    }
    replaceIfNew(this.#headline, headlineOf(progress));
    this.#pause.hidden = !this.#isReady || isLanded || failure !== null || (progress.coming === null && !isPaused);
    this.#pause.textContent = isPaused ? "Resume" : "Pause";
    this.#pause.ariaLabel = isPaused ? "Resume the download of later stages" : "Pause the download of later stages";
    this.#more.hidden = stages.length < 2;
    this.#trouble.hidden = failure === null && !isRecovering;
    this.#retry.hidden = isRecovering;
    setText(this.#troubleText, isRecovering ? RECOVERING : failure ? describeFailure(failure.stage, stages[answering]) : "");
    this.#list.replaceChildren(...stageRows(progress), ...(hasSavedTime(progress) ? [make("li", "", TIME_SAVED_BASIS)] : []));
  }

  #draw(): void {
    const progress = this.#progress;
    if (!progress?.plan) return;
    for (const [index, fill] of cellFills(this.#cells, progress).entries()) {
      const cell = this.#bar.children[index];
      if (cell instanceof HTMLElement) cell.style.setProperty("--fill", `${(100 * fill).toFixed(0)}%`);
    }
    this.#bar.ariaLabel = describeBar(progress);
    setText(
      this.#delivery,
      progress.isLanded ? describeTimeSaved(progress) : this.#isReady ? describeDelivery(progress, performance.now()) : "",
    );
  }
}

function headlineOf({ plan, stages, answering, isLanded }: StageProgress): (Node | string)[] {
  const stage = stages[Math.max(0, answering)];
  if (!plan || !stage) return [];
  if (isLanded) return [make("strong", "", "The whole model is here")];
  if (stages.length === 1) return [make("strong", "", "The whole model comes at once"), `: ${formatBytes(stage.bytes)}`];
  const contents = describeContents(plan, stage.index);
  const { worth, measuredOn } = describeQuality(stage.quality);
  if (answering < 0) {
    return [
      make("strong", "", `${stageTitle(stage.name)} comes first`),
      ` with ${contents}, ${formatBytes(stage.bytes)}. Then it answers.`,
    ];
  }
  return [
    make("strong", "", `${stageTitle(stage.name)} answers`),
    ` with ${contents}: ${worth}`,
    ...(measuredOn ? [make("span", "wide-only", `, ${measuredOn}`)] : []),
    ".",
  ];
}

/** The legend, with details that do not fit the line. */
function stageRows({ plan, stages, failure }: StageProgress): HTMLElement[] {
  if (!plan || stages.length < 2) return [];
  return stageLabels(plan).map((label, index) => {
    const stage = stages[index];
    const { worth, measuredOn } = describeQuality(stage?.quality ?? null);
    const isWhole = index === stages.length - 1;
    const parts = [`${label.contents}, ${formatBytes(stage?.bytes ?? 0)}${index > 0 ? " more" : ""}`];
    parts.push(isWhole ? "the whole model" : measuredOn ? `${worth}, ${measuredOn}` : worth);
    if (failure?.stage.index === index) parts.push(failure.reason);
    return make("li", "", stageMark(label), make("span", "", make("strong", "", label.title), `: ${parts.join("; ")}.`));
  });
}

/** Changes a live region only if its text differs, because changes are read aloud. */
function replaceIfNew(target: HTMLElement, parts: readonly (Node | string)[]): void {
  const text = parts.map((part) => (typeof part === "string" ? part : part.textContent)).join("");
  if (target.textContent !== text) target.replaceChildren(...parts);
}
