// Shows the loading of a model: phase, bytes, speed and time left, or an error and what to do.
import { element, oncePerFrame, setText } from "./dom";
import type { ByteOrigin, LoadProgress } from "./load-progress";
import { type ModelChoice, titleOf } from "./model-choice";
import type { ModelState } from "./model-host";
import { formatBytes, formatSpeed, formatTimeLeft } from "./wording";

const REDRAW_MS = 250; // as fast as numbers can be read; also shows a stall, which has no event

export class LoaderView {
  readonly #root = element("loader", HTMLElement);
  readonly #title = element("loader-title", HTMLElement);
  readonly #progress = element("loader-progress", HTMLElement);
  readonly #fill = element("loader-fill", HTMLElement);
  readonly #detail = element("loader-detail", HTMLElement);
  readonly #error = element("loader-error", HTMLElement);
  readonly #retry = element("loader-retry", HTMLButtonElement);
  readonly #other = element("loader-other", HTMLButtonElement);
  readonly #cancel = element("loader-cancel", HTMLButtonElement);
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor({ onRetry, onOther, onCancel }: { onRetry: () => void; onOther: () => void; onCancel: () => void }) {
    this.#retry.addEventListener("click", onRetry);
    this.#other.addEventListener("click", onOther);
    this.#cancel.addEventListener("click", onCancel);
  }

  show(state: ModelState): void {
    clearInterval(this.#timer);
    this.#root.hidden = state.kind === "ready";
    const isLoading = state.kind === "loading";
    for (const part of [this.#title, this.#progress, this.#detail, this.#cancel]) part.hidden = !isLoading;
    this.#error.hidden = state.kind !== "failed";
    this.#retry.hidden = this.#other.hidden = !(state.kind === "failed" && state.canRetry);
    this.#error.textContent = state.kind === "failed" ? state.reason : "";
    if (state.kind !== "loading") return;
    const draw = oncePerFrame(() => this.#draw(state.choice, state.progress));
    draw();
    this.#timer = setInterval(draw, REDRAW_MS);
  }

  #draw(choice: ModelChoice, progress: LoadProgress): void {
    const percent = Math.round(100 * progress.share);
    setText(this.#title, describePhase(progress, titleOf(choice)));
    setText(this.#detail, describeProgress(progress, performance.now()));
    this.#progress.ariaValueNow = String(percent);
    this.#fill.style.inlineSize = `${percent}%`;
    this.#progress.classList.toggle("is-endless", progress.phase !== "receiving");
  }
}

export function describePhase({ phase, origin }: LoadProgress, title: string): string {
  switch (phase) {
    case "opening":
      return `Opening ${title}`;
    case "receiving":
      return `${verbOf(origin)} ${title}`;
    case "finishing":
      return "Moving weights to the graphics card and compiling for it";
    default:
      return phase satisfies never;
  }
}

export function describeProgress(progress: LoadProgress, nowMs: number): string {
  if (progress.phase === "opening") return progress.note ?? "Reading the file headers";
  const target = `${formatBytes(progress.firstBytes)}${progress.firstBytes < progress.totalBytes ? " until it answers" : ""}`;
  const parts = [`${formatBytes(progress.arrivedBytes)} of ${target}`];
  const speed = progress.bytesPerSecond(nowMs);
  if (speed !== null) parts.push(progress.isStalled(nowMs) ? "waiting for the network, or for shaders to compile" : formatSpeed(speed));
  const secondsLeft = progress.secondsLeft(nowMs);
  if (secondsLeft !== null) parts.push(formatTimeLeft(secondsLeft));
  if (progress.note) parts.push(progress.note);
  return parts.join(" · ");
}

function verbOf(origin: ByteOrigin | null): string {
  if (origin === "cache") return "Reading from this browser’s cache:";
  return origin === "local" ? "Reading" : "Downloading";
}
