// The settings' form. Whatever is changed holds at once, and is kept.
import { element, make } from "./dom";
import { LINK_SPEEDS } from "./link-speed";
import { closeOnBackdrop } from "./model-dialog";
import { DEFAULT_SETTINGS, type Settings, type SettingsStore } from "./settings";
import type { LinkThrottle } from "./throttled-fetch";

export interface SettingsDialogOptions {
  readonly store: SettingsStore;
  /** Its speed is for this page only: nobody wants to find a slow one the next day. */
  readonly link: LinkThrottle;
  readonly onLinkSpeed: (megabitsPerSecond: number | null) => void;
  /** The model is to be loaded again, at the speed that is chosen now. */
  readonly onReload: () => void;
  /** Hears when the reader is done, whatever was changed. */
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

  /** The address may ask for a speed that is not among ours. */
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
      // A number half typed does not count yet; the browser marks the field.
      maxTokens: this.#maxTokens.validity.valid ? this.#maxTokens.valueAsNumber : maxTokens,
    });
  }

  #showValues(): void {
    element("temperature-value", HTMLOutputElement).value = this.#temperature.valueAsNumber.toFixed(2);
    element("top-p-value", HTMLOutputElement).value = this.#topP.valueAsNumber.toFixed(2);
  }
}
