// Values from outside, named in an error message: short whatever they are, and without walking into them.

const MAX_QUOTED = 200; // characters

/** "5", a text in quotation marks, "a list of 3", "an object": for messages that say what was found. */
export function quote(value: unknown): string {
  if (typeof value === "string") return clip(JSON.stringify(value.slice(0, MAX_QUOTED)));
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (value === undefined) return "missing";
  if (typeof value === "function" || (typeof value === "object" && value !== null))
    return `${typeof value === "object" ? "an" : "a"} ${typeof value}`;
  return clip(String(value));
}

/** At most 200 characters of `text`. */
export function clip(text: string): string {
  return text.length > MAX_QUOTED ? `${text.slice(0, MAX_QUOTED - 1)}…` : text;
}
