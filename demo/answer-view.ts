// One answer on the page: its text as it grows, then how it ended and how fast it came.
import type { AnswerSummary } from "../src/index";
import { make, oncePerFrame } from "./dom";
import { copyText, MarkdownView } from "./markdown";
import { formatRate, formatSeconds } from "./wording";

export class AnswerView {
  readonly root = make("article", "answer is-waiting");
  readonly #body = make("div", "prose");
  readonly #foot = make("footer", "answer-foot");
  readonly #markdown = new MarkdownView(this.#body);
  readonly #draw = oncePerFrame(() => this.#markdown.update(this.#text));
  #text = "";

  constructor() {
    this.root.ariaLabel = "Answer";
    // Readers of the page aloud wait for the whole instead of stuttering through the pieces.
    this.root.ariaBusy = "true";
    this.root.append(this.#body, this.#foot);
  }

  append(text: string): void {
    this.#text += text;
    this.root.classList.remove("is-waiting");
    this.root.classList.add("is-growing");
    this.#draw();
  }

  finish(summary: AnswerSummary, maxTokens: number): void {
    const ending = describeEnding(summary, maxTokens);
    this.#end(...(ending ? [make("p", "answer-ending", ending)] : []), make("p", "answer-stats", describeSummary(summary)));
  }

  stopped(): void {
    this.#end(make("p", "answer-ending", "Stopped."));
  }

  failed(reason: string): void {
    this.#end(make("p", "answer-error", reason));
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

/** Why an answer ended, where it did not end by itself. */
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
