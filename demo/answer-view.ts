// One answer on the page: its growing text, then why it ended and how fast it was.
import type { AnswerSummary } from "../src/index";
import { make, oncePerFrame } from "./dom";
import { copyText, MarkdownView } from "./markdown";
import { markBlock } from "./stage-marks";
import { StageRuns } from "./stage-runs";
import { describeSpeakers, type StageLabel } from "./stage-words";
import { formatRate, formatSeconds } from "./wording";

export class AnswerView {
  readonly root = make("article", "answer is-waiting");
  readonly #body = make("div", "prose");
  readonly #foot = make("footer", "answer-foot");
  readonly #runs = new StageRuns();
  readonly #labels: readonly StageLabel[];
  readonly #markdown: MarkdownView;
  readonly #draw = oncePerFrame(() => this.#markdown.update(this.#text));
  #text = "";

  /** @param labels Labels of the model's stages. With a single stage, nothing is marked. */
  constructor(labels: readonly StageLabel[]) {
    this.#labels = labels;
    this.#markdown =
      labels.length > 1 ? new MarkdownView(this.#body, (block) => markBlock(block, this.#runs, labels)) : new MarkdownView(this.#body);
    this.root.ariaLabel = "Answer";
    // Screen readers wait for the whole answer instead of reading fragments.
    this.root.ariaBusy = "true";
    this.root.append(this.#body, this.#foot);
  }

  /** Whether more text may follow. */
  get isGrowing(): boolean {
    return this.root.ariaBusy === "true";
  }

  get hasText(): boolean {
    return this.#text !== "";
  }

  /** @param stage Index of the stage that wrote the text. */
  append(text: string, stage: number): void {
    this.#text += text;
    this.#runs.add(text, stage);
    this.root.classList.remove("is-waiting");
    this.root.classList.add("is-growing");
    this.#draw();
  }

  finish(summary: AnswerSummary, maxTokens: number): void {
    const ending = describeEnding(summary, maxTokens);
    const stats = this.#labels.length > 1 ? [describeSummary(summary), this.#speakers()] : [describeSummary(summary)];
    this.#end(...(ending ? [make("p", "answer-ending", ending)] : []), make("p", "answer-stats", stats.filter(Boolean).join(" · ")));
  }

  /** Adds a line below the text, even while the text grows. */
  addNote(note: HTMLElement): void {
    this.#foot.before(note);
  }

  stopped(): void {
    this.#end(make("p", "answer-ending", "Stopped."));
  }

  failed(reason: string): void {
    this.#end(make("p", "answer-error", reason));
  }

  #speakers(): string {
    return describeSpeakers(this.#labels, this.#runs.stages);
  }

  #end(...notes: readonly HTMLElement[]): void {
    this.#markdown.update(this.#text); // a hidden tab gets no frames
    this.root.classList.remove("is-waiting", "is-growing");
    this.root.ariaBusy = "false";
    this.#foot.append(...notes);
    if (this.#text === "") return;
    const copy = make("button", "copy-button", "Copy");
    copy.type = "button";
    copy.ariaLabel = "Copy the answer";
    copy.addEventListener("click", () => void copyText(this.#text, copy));
    this.#foot.append(copy);
  }
}

/** Why an answer ended, if it did not end by itself. */
export function describeEnding({ finishReason }: AnswerSummary, maxTokens: number): string | null {
  switch (finishReason) {
    case "stop":
      return null;
    case "length":
      return `Cut: the maximum of ${maxTokens} tokens is reached (see Settings).`;
    case "context":
      return "The context is full: begin a new chat.";
    default:
      return finishReason satisfies never;
  }
}

export function describeSummary(summary: AnswerSummary): string {
  const { generatedTokens, decodeTokensPerSecond, timeToFirstTokenMs, prefillTokens, cachedTokens } = summary;
  const parts = [`${generatedTokens} ${generatedTokens === 1 ? "token" : "tokens"}`];
  if (decodeTokensPerSecond > 0) parts.push(`${formatRate(decodeTokensPerSecond)} tokens/s`);
  if (timeToFirstTokenMs > 0) parts.push(`first after ${formatSeconds(timeToFirstTokenMs)}`);
  parts.push(cachedTokens > 0 ? `prompt of ${prefillTokens} new and ${cachedTokens} kept` : `prompt of ${prefillTokens}`);
  return parts.join(" · ");
}
