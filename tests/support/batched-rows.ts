// Steps whose rows are of different sequences, for every kernel that works row by row: rows at odd places, in slots out of order.
import type { PageLayout } from "../reference/paged-cache";
import { foreignPool, place } from "../reference/paged-cache";
import type { Sequence } from "./attention-sequence";
import type { Random } from "./random";

export interface BatchRow {
  readonly position: number;
  readonly slot: number;
  readonly stopped?: number;
}

/** At the ends and beginnings of pages and of splits, one far behind the others, one stopped in the middle. */
export const BATCH: readonly BatchRow[] = [
  { position: 0, slot: 3 },
  { position: 63, slot: 0 },
  { position: 200, slot: 6, stopped: 1 },
  { position: 64, slot: 1 },
  { position: 250, slot: 4 },
  { position: 17, slot: 2 },
];

export interface BatchTables {
  /** [slots, tableStride] */
  readonly table: Uint32Array<ArrayBuffer>;
  readonly tableStride: number;
  /** Of each row, its own pages. */
  readonly pages: readonly Uint32Array<ArrayBuffer>[];
  /** In the pool: all rows' and some that are nobody's. */
  readonly pageCount: number;
}

const FOREIGN_PAGES = 3;

/** Pages in random order, each of one row; what a table has beyond its own are another's, as stale ones would be. */
export function batchTables(random: Random, rows: readonly BatchRow[], pageSize: number): BatchTables {
  const counts = rows.map(({ position }) => Math.floor(position / pageSize) + 1);
  const pageCount = counts.reduce((sum, count) => sum + count, FOREIGN_PAGES);
  const order = random.permutation(pageCount);
  const tableStride = Math.max(...counts) + FOREIGN_PAGES;
  const table = random.ids(tableStride * (1 + Math.max(...rows.map(({ slot }) => slot))), pageCount);
  let next = 0;
  const pages = rows.map(({ slot }, row) => {
    const own = order.slice(next, next + (counts[row] ?? 0));
    next += own.length;
    table.set(own, slot * tableStride);
    return own;
  });
  return { table, tableStride, pages, pageCount };
}

/** K and V of a sequence for each row, up to its position, in one pool. */
export function batchPools(random: Random, layout: PageLayout, rows: readonly BatchRow[], sequences: readonly Sequence[]) {
  const tables = batchTables(random, rows, layout.pageSize);
  let keys = foreignPool(random, layout, tables.pageCount);
  let values = foreignPool(random, layout, tables.pageCount);
  rows.forEach(({ position }, row) => {
    const cached = (position + 1) * layout.kvHeadCount * layout.headDim;
    const pages = tables.pages[row] ?? new Uint32Array();
    keys = place(layout, pages, keys, 0, sequences[row]?.keys.subarray(0, cached) ?? []);
    values = place(layout, pages, values, 0, sequences[row]?.values.subarray(0, cached) ?? []);
  });
  return { ...tables, keys, values };
}

/** Of each row, its part of a tensor [rows, stride]. */
export function rowOf<T extends Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer>>(tensor: T, row: number, stride: number): T {
  return tensor.slice(row * stride, (row + 1) * stride) as T;
}
