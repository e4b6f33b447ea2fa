// The settings form. Changes apply at once and are stored.
import { element, make } from "./dom";
import { LINK_SPEEDS } from "./link-speed";
import { closeOnBackdrop } from "./model-dialog";
import { DEFAULT_SETTINGS, type Settings, type SettingsStore } from "./settings";
import type { LinkThrottle } from "./throttled-fetch";

export interface SettingsDialogOptions {
  readonly store: SettingsStore;
  /** The speed lasts for this page only, so that no visitor returns to a forgotten slow setting. */
  readonly link: LinkThrottle;
  readonly onLinkSpeed: (megabitsPerSecond: number | null) => void;
  /** Called to load the model again, at the chosen speed. */
  readonly onReload: () => void;
  /** Called when the dialog closes. */
  readonly onClose: () => void;
}

export class SettingsDialog {
  readonly #dialog = element("settings-dialog", HTMLDialogElement);
  readonly #system = element("system", HTMLTextAreaElement);
  readonly #temperature = element("temperature", HTMLInputElement);
  readonly #topP = element("top-p", HTMLInputElement);
  readonly #maxTokens = element("max-tokens", HTMLInputElement);
  readonly #linkSpeed = element("link-speed", HTMLSelectElement);
  readonly #options: SettingsDialogOptions;
  readonly #store: SettingsStore;

  constructor(options: SettingsDialogOptions) {
    const { store, onClose, onReload } = options;
    this.#options = options;
    this.#store = store;
    element("settings-form", HTMLFormElement).addEventListener("input", () => this.#save());
    this.#linkSpeed.addEventListener("change", () => this.#setLinkSpeed(this.#linkSpeed.value));
    element("reload-model", HTMLButtonElement).addEventListener("click", () => {
      this.#dialog.close();
      onReload();
    });
    element("reset-settings", HTMLButtonElement).addEventListener("click", () => {
      store.save(DEFAULT_SETTINGS);
      this.#setLinkSpeed("");
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
    this.#fillLinkSpeed();
    this.#showValues();
  }

  /** The address may name a speed that is not in our list. */
  #fillLinkSpeed(): void {
    const speed = this.#options.link.megabitsPerSecond;
    const speeds = new Set([...LINK_SPEEDS, ...(speed === null ? [] : [speed])]);
    const option = (value: string, text: string) => {
      const made = make("option", "", text);
      made.value = value;
      return made;
    };
    const known = [...speeds].sort((a, b) => b - a).map((each) => option(String(each), `${each} Mbit/s`));
    this.#linkSpeed.replaceChildren(option("", "As fast as it comes"), ...known);
    this.#linkSpeed.value = speed === null ? "" : String(speed);
  }

  #setLinkSpeed(value: string): void {
    this.#options.onLinkSpeed(value === "" ? null : Number(value));
  }

  #save(): void {
    this.#showValues();
    const { maxTokens } = this.#store.current;
    this.#store.save({
      system: this.#system.value,
      temperature: this.#temperature.valueAsNumber,
      topP: this.#topP.valueAsNumber,
      // A half-typed number does not count yet; the browser marks the field.
      maxTokens: this.#maxTokens.validity.valid ? this.#maxTokens.valueAsNumber : maxTokens,
    });
  }

  #showValues(): void {
    element("temperature-value", HTMLOutputElement).value = this.#temperature.valueAsNumber.toFixed(2);
    element("top-p-value", HTMLOutputElement).value = this.#topP.valueAsNumber.toFixed(2);
  }
}
