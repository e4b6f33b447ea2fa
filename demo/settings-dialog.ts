// The settings' form. Whatever is changed holds at once, and is kept.
import { element } from "./dom";
import { closeOnBackdrop } from "./model-dialog";
import { DEFAULT_SETTINGS, type Settings, type SettingsStore } from "./settings";

export class SettingsDialog {
  readonly #dialog = element("settings-dialog", HTMLDialogElement);
  readonly #system = element("system", HTMLTextAreaElement);
  readonly #temperature = element("temperature", HTMLInputElement);
  readonly #topP = element("top-p", HTMLInputElement);
  readonly #maxTokens = element("max-tokens", HTMLInputElement);
  readonly #store: SettingsStore;

  /** @param onClose Hears when the reader is done, whatever was changed. */
  constructor({ store, onClose }: { store: SettingsStore; onClose: () => void }) {
    this.#store = store;
    element("settings-form", HTMLFormElement).addEventListener("input", () => this.#save());
    element("reset-settings", HTMLButtonElement).addEventListener("click", () => {
      store.save(DEFAULT_SETTINGS);
      this.#fill(DEFAULT_SETTINGS);
    });
    this.#dialog.addEventListener("close", onClose);
    closeOnBackdrop(this.#dialog);
  }

  open(): void {
    this.#fill(this.#store.current);
    this.#dialog.showModal();
  }

  #fill({ system, temperature, topP, maxTokens }: Settings): void {
    this.#system.value = system;
    this.#temperature.valueAsNumber = temperature;
    this.#topP.valueAsNumber = topP;
    this.#maxTokens.valueAsNumber = maxTokens;
    this.#showValues();
  }

  #save(): void {
    this.#showValues();
    const { maxTokens } = this.#store.current;
    this.#store.save({
      system: this.#system.value,
      temperature: this.#temperature.valueAsNumber,
      topP: this.#topP.valueAsNumber,
      // A number half typed does not count yet; the browser marks the field.
      maxTokens: this.#maxTokens.validity.valid ? this.#maxTokens.valueAsNumber : maxTokens,
    });
  }

  #showValues(): void {
    element("temperature-value", HTMLOutputElement).value = this.#temperature.valueAsNumber.toFixed(2);
    element("top-p-value", HTMLOutputElement).value = this.#topP.valueAsNumber.toFixed(2);
  }
}
