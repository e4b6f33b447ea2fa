// Reads fields of a model's configuration (config.json or GGUF metadata) and checks each before it is used.
import { LlmError } from "../errors";
import { quoted } from "../quoted";

// Far above any model, low enough that products of a few sizes stay safe integers.
const MAX_COUNT = 2 ** 24;

export class ConfigFields {
  /** Where the fields come from, for messages. */
  readonly where: string;
  readonly #values: ReadonlyMap<string, unknown>;
  readonly #prefix: string;

  /** `prefix` is put before every key: GGUF's keys begin with the architecture. */
  constructor(values: ReadonlyMap<string, unknown>, where: string, prefix = "") {
    this.#values = values;
    this.where = where;
    this.#prefix = prefix;
  }

  /** The raw value; undefined if there is no such key. JSON's null stays null. */
  value(key: string): unknown {
    return this.#values.get(this.#prefix + key);
  }

  /** Whether the key exists and is not null. */
  has(key: string): boolean {
    return (this.value(key) ?? null) !== null;
  }

  /** A positive integer; `fallback` if the key is missing or null. */
  count(key: string, fallback?: number): number {
    return this.#number(key, fallback, "a positive integer", (value) => Number.isInteger(value) && value > 0 && value <= MAX_COUNT);
  }

  /** A positive integer; null if the key is missing or null. */
  optionalCount(key: string): number | null {
    return this.has(key) ? this.count(key) : null;
  }

  /** A finite number above 0; `fallback` if the key is missing or null. */
  positive(key: string, fallback?: number): number {
    return this.#number(key, fallback, "a number above 0", (value) => Number.isFinite(value) && value > 0);
  }

  flag(key: string, fallback: boolean): boolean {
    const value = this.value(key) ?? fallback;
    if (typeof value !== "boolean") throw this.wrong(key, "true or false");
    return value;
  }

  text(key: string, fallback?: string): string {
    const value = this.value(key) ?? fallback;
    if (typeof value !== "string") throw this.wrong(key, "a string");
    return value;
  }

  /** The fields of a nested object; no fields if the key is missing or null. */
  nested(key: string): ConfigFields {
    const value = this.value(key) ?? {};
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw this.wrong(key, "an object");
    return new ConfigFields(new Map(Object.entries(value)), `${this.where}, ${key}`);
  }

  /** The error for a field of the wrong kind or out of range. */
  wrong(key: string, expected: string): LlmError {
    const value = this.value(key);
    const found = value === undefined ? "is missing" : `is ${quoted(value)}`;
    return new LlmError("bad-config", `${this.where}: "${this.#prefix}${key}" ${found}, expected ${expected}`);
  }

  /** The error for a valid field that we do not support. */
  unsupported(key: string, instead: string): LlmError {
    return new LlmError("unsupported", `${this.where}: "${this.#prefix}${key}" is ${quoted(this.value(key))}; ${instead}`);
  }

  #number(key: string, fallback: number | undefined, expected: string, holds: (value: number) => boolean): number {
    const stated = this.value(key) ?? null;
    if (stated instanceof Float64Array) throw this.unsupported(key, "a value for each layer is not supported");
    const value = stated ?? fallback;
    if (typeof value === "number" && holds(value)) return value;
    if (stated !== null || fallback === undefined) throw this.wrong(key, expected);
    throw new LlmError("bad-config", `${this.where}: "${this.#prefix}${key}" is missing and defaults to ${fallback}, expected ${expected}`);
  }
}
