// The choice of a model: the embedded one, a hub's by name, files of this device; and what is kept of them.
import { CacheList } from "./cache-list";
import { element, make } from "./dom";
import { describeEmbedded, EMBEDDED, EMBEDDED_TITLE, type ModelChoice } from "./model-choice";

export class ModelDialog {
  readonly #dialog = element("model-dialog", HTMLDialogElement);
  readonly #hubName = element("hub-name", HTMLInputElement);
  readonly #cache = new CacheList();
  readonly #onChoose: (choice: ModelChoice) => void;

  constructor({ hubEndpoint, onChoose }: { hubEndpoint: string | null; onChoose: (choice: ModelChoice) => void }) {
    this.#onChoose = onChoose;
    const host = hubEndpoint === null ? "huggingface.co" : hubEndpoint.replace(/^https?:\/\//, "");
    element("hub-hint", HTMLElement).textContent =
      `Looked up on ${host}. Safetensors need the repository’s name alone, a GGUF its file’s name too.`;
    const embedded = element("use-embedded", HTMLButtonElement);
    embedded.append(make("strong", "", EMBEDDED_TITLE), make("span", "", describeEmbedded()));
    embedded.addEventListener("click", () => this.#choose(EMBEDDED));
    element("hub-form", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      this.#choose({ kind: "named", name: this.#hubName.value.trim() });
    });
    for (const id of ["pick-files", "pick-folder"]) this.#takeFiles(element(id, HTMLInputElement));
    element("close-models", HTMLButtonElement).addEventListener("click", () => this.#dialog.close());
    closeOnBackdrop(this.#dialog);
  }

  open(): void {
    if (!this.#dialog.open) this.#dialog.showModal();
    void this.#cache.refresh();
  }

  #takeFiles(input: HTMLInputElement): void {
    input.addEventListener("change", () => {
      const files = [...(input.files ?? [])];
      input.value = ""; // so that the same choice counts again
      if (files.length > 0) this.#choose({ kind: "files", files });
    });
  }

  #choose(choice: ModelChoice): void {
    this.#dialog.close();
    this.#onChoose(choice);
  }
}

/** A press beside the dialog closes it: its own box is filled by its children, so only the backdrop hits the dialog itself. */
export function closeOnBackdrop(dialog: HTMLDialogElement): void {
  dialog.addEventListener("pointerdown", (event) => {
    if (event.target !== dialog) return;
    const { left, right, top, bottom } = dialog.getBoundingClientRect();
    const isInside = event.clientX >= left && event.clientX <= right && event.clientY >= top && event.clientY <= bottom;
    if (!isInside) dialog.close();
  });
}
