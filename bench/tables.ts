// Formats a result as tables, one for each list of objects in it.

export interface Table {
  readonly title: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

export function tablesOf(result: object, title = ""): Table[] {
  const entries = Object.entries(result);
  const nested = entries.flatMap(([key, value]) => {
    const name = title ? `${title} ${key}` : key;
    if (isList(value)) return [listTable(name, value), ...value.flatMap((item) => tablesOf(listsOf(item), `${name} ${label(item)}`))];
    return typeof value === "object" && value !== null && !Array.isArray(value) ? tablesOf(value, name) : [];
  });
  const plain = entries.filter(([, value]) => isPlain(value));
  const own = plain.length === 0 ? [] : [{ title, columns: plain.map(([key]) => key), rows: [plain.map(([, value]) => text(value))] }];
  return [...own, ...nested];
}

export function textTable({ title, columns, rows }: Table): string {
  const lines = [columns, ...rows];
  const widths = columns.map((_, at) => Math.max(...lines.map((line) => line[at]?.length ?? 0)));
  return [title, ...lines.map((line) => line.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join("  "))].join("\n");
}

type Item = Readonly<Record<string, unknown>>;

function isList(value: unknown): value is readonly Item[] {
  return (
    Array.isArray(value) && value.length > 0 && value.every((item) => typeof item === "object" && item !== null && !Array.isArray(item))
  );
}

function isPlain(value: unknown): boolean {
  return typeof value !== "object" || value === null;
}

function listTable(title: string, items: readonly Item[]): Table {
  const flat = items.map((item) => Object.fromEntries(Object.entries(item).flatMap(flattened)));
  const columns = [...new Set(flat.flatMap((item) => Object.keys(item)))];
  return { title, columns, rows: flat.map((item) => columns.map((column) => text(item[column]))) };
}

/** `tuning: { lanes: 16 }` becomes `tuning.lanes`. Lists have their own tables. */
function flattened([key, value]: [string, unknown]): [string, unknown][] {
  if (isPlain(value)) return [[key, value]];
  if (Array.isArray(value)) return [];
  return Object.entries(value as Item).flatMap(([inner, innerValue]) => flattened([`${key}.${inner}`, innerValue]));
}

function listsOf(item: Item): Item {
  return Object.fromEntries(Object.entries(item).filter(([, value]) => isList(value)));
}

function label(item: Item): string {
  return Object.values(item).filter(isPlain).slice(0, 2).map(text).join(" ");
}

function text(value: unknown): string {
  if (typeof value !== "number") return value === undefined ? "" : String(value);
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
}
