// The input field: Enter sends, Shift+Enter breaks the line, Esc stops.
import { element } from "./dom";

/** What the composer can do now. */
export type ComposerState = "unavailable" | "ready" | "answering";

export class Composer {
  readonly #form = element("composer", HTMLFormElement);
  readonly #message = element("message", HTMLTextAreaElement);
  readonly #send = element("send", HTMLButtonElement);
  readonly #stop = element("stop", HTMLButtonElement);
  readonly #onSend: (text: string) => void;
  #state: ComposerState = "unavailable";

  constructor({ onSend, onStop }: { onSend: (text: string) => void; onStop: () => void }) {
    this.#onSend = onSend;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#message.addEventListener("input", () => this.#refresh());
    this.#message.addEventListener("keydown", (event) => {
      // While an input method composes, Enter accepts its suggestion.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#submit();
    });
    this.#stop.addEventListener("click", onStop);
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.#state === "answering" && !document.querySelector("dialog[open]")) onStop();
    });
    this.#refresh();
  }

  show(state: ComposerState, placeholder: string): void {
    const hadFocus = this.#form.contains(document.activeElement);
    this.#state = state;
    this.#message.placeholder = placeholder;
    this.#send.hidden = state === "answering";
    this.#stop.hidden = state !== "answering";
    this.#refresh();
    if (hadFocus) this.#message.focus(); // the button with the focus may be hidden now
  }

  /** Focuses the field, except where an on-screen keyboard would cover half the page. */
  focus(): void {
    if (matchMedia("(pointer: fine)").matches) this.#message.focus();
  }

  #submit(): void {
    const text = this.#message.value.trim();
    if (text === "" || this.#state !== "ready") return;
    this.#message.value = "";
    this.#refresh();
    this.#onSend(text);
  }

  #refresh(): void {
    this.#send.disabled = this.#state !== "ready" || this.#message.value.trim() === "";
    // As tall as its text; the style sheet sets the maximum.
    this.#message.style.blockSize = "auto";
    this.#message.style.blockSize = `${this.#message.scrollHeight}px`;
  }
}
