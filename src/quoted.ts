// What was found in a file, for an error message: at most 200 characters of it, however long or deeply nested it is.

const MOST_CHARACTERS = 200;
const MOST_NESTED = 4; // deeper values are not walked: a file may nest them until the stack is full
const MOST_ITEMS = 50; // of one list or object

/** `text`, cut where it is longer. */
export function shortened(text: string): string {
  return text.length > MOST_CHARACTERS ? `${text.slice(0, MOST_CHARACTERS)}…` : text;
}

/** A JSON value as JSON writes it, cut where it is longer; "missing" for undefined. */
export function quoted(value: unknown): string {
  return value === undefined ? "missing" : shortened(written(value, 0));
}

function written(value: unknown, depth: number): string {
  if (typeof value === "string") return JSON.stringify(value.slice(0, MOST_CHARACTERS + 1));
  if (typeof value !== "object" || value === null) return String(value);
  if (depth === MOST_NESTED) return "…";
  if (value instanceof Uint8Array) return "a text that is not UTF-8"; // GGUF's metadata
  if (value instanceof Float64Array) return written([...value.subarray(0, MOST_ITEMS + 1)], depth);
  if (Array.isArray(value))
    return `[${listed(
      value.length,
      value.slice(0, MOST_ITEMS).map((item) => written(item, depth + 1)),
    )}]`;
  const keys = Object.keys(value);
  const record = value as Readonly<Record<string, unknown>>;
  const items = keys.slice(0, MOST_ITEMS).map((key) => `${written(key, depth)}:${written(record[key], depth + 1)}`);
  return `{${listed(keys.length, items)}}`;
}

function listed(count: number, items: readonly string[]): string {
  return items.join(",") + (count > items.length ? ",…" : "");
}
