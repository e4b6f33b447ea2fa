// The visitor's settings, and where they are stored.

export interface Settings {
  /** Empty: the model's own. */
  readonly system: string;
  readonly temperature: number;
  readonly topP: number;
  readonly maxTokens: number;
}

export const DEFAULT_SETTINGS: Settings = { system: "", temperature: 0.5, topP: 0.9, maxTokens: 512 };

const KEY = "crescendo-settings";

/** Missing or invalid fields get their defaults, so the settings of an older page never break a newer one. */
export function parseSettings(json: string | null): Settings {
  const found = parseObject(json);
  const number = (name: "temperature" | "topP" | "maxTokens", low: number, high: number): number => {
    const value = found[name];
    return typeof value === "number" && value >= low && value <= high ? value : DEFAULT_SETTINGS[name];
  };
  return {
    system: typeof found.system === "string" ? found.system : DEFAULT_SETTINGS.system,
    temperature: number("temperature", 0, 2),
    topP: number("topP", 0.05, 1),
    maxTokens: Math.floor(number("maxTokens", 1, 32_768)),
  };
}

/** Settings that outlive the page, if the browser allows storage. */
export class SettingsStore {
  readonly #storage: Storage | null;
  #current: Settings;

  constructor(storage: Storage | null) {
    this.#storage = storage;
    this.#current = parseSettings(storage?.getItem(KEY) ?? null);
  }

  get current(): Settings {
    return this.#current;
  }

  save(settings: Settings): void {
    this.#current = settings;
    this.#storage?.setItem(KEY, JSON.stringify(settings));
  }
}

/** Null if the browser forbids storage; then even reading the property throws. */
export function pageStorage(): Storage | null {
  try {
    return window.localStorage;
  } catch (error) {
    console.warn(`Settings last until the page is closed: ${error}`);
    return null;
  }
}

function parseObject(json: string | null): Readonly<Record<string, unknown>> {
  if (json === null) return {};
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === "object" && value !== null ? { ...value } : {};
  } catch (error) {
    console.warn(`The kept settings cannot be read and are dropped: ${error}`);
    return {};
  }
}
