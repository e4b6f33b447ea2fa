// The page before the first message, and the line below the composer: which model this is, and how far to trust it.
import { element, make } from "./dom";
import { EMBEDDED_TITLE, remarkOn, titleOf } from "./model-choice";
import type { ModelState } from "./model-host";
import { formatBytes, formatSeconds } from "./wording";

// Similar questions were in the embedded model's training data.
const SUGGESTIONS = ["Why is the sky blue?", "Write two sentences about the sea.", "Give me three tips for sleeping better."];

export class IntroView {
  readonly #text = element("intro-text", HTMLElement);
  readonly #facts = element("intro-facts", HTMLElement);
  readonly #notice = element("notice", HTMLElement);
  readonly #suggestions = element("suggestions", HTMLElement);

  constructor({ onSuggestion }: { onSuggestion: (text: string) => void }) {
    for (const text of SUGGESTIONS) {
      const button = make("button", "suggestion", text);
      button.type = "button";
      button.addEventListener("click", () => onSuggestion(text));
      this.#suggestions.append(make("li", "", button));
    }
  }

  show(state: ModelState): void {
    this.#text.textContent = describeModel(state);
    this.#facts.textContent = state.kind === "ready" ? describeFacts(state) : "";
    this.#suggestions.hidden = state.kind !== "ready";
    this.#notice.textContent =
      state.kind === "ready" ? `${remarkOn(state.choice)} Runs on ${state.engine.adapterName}.` : remarkOn(state.choice);
  }
}

function describeModel({ choice }: ModelState): string {
  const privacy = "It runs on this device: nothing that you write leaves the page.";
  if (choice.kind === "embedded") return `${EMBEDDED_TITLE} is a very small model: fluent, on topic, often wrong. ${privacy}`;
  return `${titleOf(choice)}. ${privacy}`;
}

function describeFacts({ engine, progress, stages }: Extract<ModelState, { kind: "ready" }>): string {
  const from = progress.origin === "cache" ? " from this browser’s cache" : "";
  const load = stages.isLanded
    ? `Loaded ${formatBytes(progress.totalBytes)}${from} in ${formatSeconds(stages.landedMs)}`
    : `Answers after ${formatBytes(progress.firstBytes)} of ${formatBytes(progress.totalBytes)}${from}, in ${formatSeconds(progress.loadMs)}`;
  const memory = `${formatBytes(engine.memory().total)} of graphics memory`;
  const mode = engine.tokenizer.chatTemplate ? "" : " · without a chat template: it continues your text";
  return `${load} · ${memory}${mode}`;
}
