// The dialog for choosing a model: the embedded one, one from a hub, or files of this device. Also lists the cached models.
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
      `Loaded from ${host}. For safetensors enter the repository’s name; for a GGUF add the file’s name.`;
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
      input.value = ""; // so that choosing the same file again fires a change
      if (files.length > 0) this.#choose({ kind: "files", files });
    });
  }

  #choose(choice: ModelChoice): void {
    this.#dialog.close();
    this.#onChoose(choice);
  }
}

/** A press beside the dialog closes it. Children fill the dialog's box, so only the backdrop targets the dialog itself. */
export function closeOnBackdrop(dialog: HTMLDialogElement): void {
  dialog.addEventListener("pointerdown", (event) => {
    if (event.target !== dialog) return;
    const { left, right, top, bottom } = dialog.getBoundingClientRect();
    const isInside = event.clientX >= left && event.clientX <= right && event.clientY >= top && event.clientY <= bottom;
    if (!isInside) dialog.close();
  });
}
