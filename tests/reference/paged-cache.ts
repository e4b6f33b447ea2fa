// K and V scattered over pages as the GPU holds them, among pages of other sequences.
import { packHalves, roundToHalf, unpackHalves } from "../support/half";
import type { Random } from "../support/random";

export interface PageLayout {
  readonly kvHeadCount: number;
  readonly headDim: number;
  readonly pageSize: number;
  readonly kvFormat: "f32" | "f16";
}

type CacheTensor = Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer>;

/** Pages beyond a sequence's own, in the pool and in the table. */
const FOREIGN_PAGES = 3;

/** Pages in random order; after the sequence's own the table goes on with another's, as a stale one would. */
export function randomTable(random: Random, positions: number, pageSize: number): Uint32Array<ArrayBuffer> {
  return random.permutation(Math.ceil(positions / pageSize) + FOREIGN_PAGES);
}

/** A pool full of large numbers that are no sequence's. */
export function foreignPool(random: Random, layout: PageLayout, pageCount: number): CacheTensor {
  const values = random.uniform([pageCount * layout.kvHeadCount * layout.pageSize * layout.headDim], 1e3, 6e4);
  return layout.kvFormat === "f16" ? packHalves(values) : values;
}

/** A foreign pool that holds a sequence, [position][kvHead][headDim]. */
export function scatter(random: Random, layout: PageLayout, table: Uint32Array, sequence: ArrayLike<number>): CacheTensor {
  return place(layout, table, foreignPool(random, layout, table.length), 0, sequence);
}

/** The pool with `values`, [position][kvHead][headDim], written from `position` on. */
export function place(layout: PageLayout, table: Uint32Array, pool: CacheTensor, position: number, values: ArrayLike<number>): CacheTensor {
  const all = poolValues(pool).slice();
  const from = position * layout.kvHeadCount * layout.headDim;
  for (let i = 0; i < values.length; i++) all[placeOf(layout, table, from + i)] = values[i] ?? Number.NaN;
  return layout.kvFormat === "f16" ? packHalves(all) : all;
}

export function poolValues(pool: CacheTensor): Float32Array<ArrayBuffer> {
  return pool instanceof Uint32Array ? unpackHalves(pool) : pool;
}

/** What a value is once it has been stored. */
export function stored(layout: PageLayout, values: Float32Array<ArrayBuffer>): Float32Array<ArrayBuffer> {
  return layout.kvFormat === "f16" ? values.map(roundToHalf) : values;
}

function placeOf({ kvHeadCount, headDim, pageSize }: PageLayout, table: Uint32Array, index: number): number {
  const dimension = index % headDim;
  const kvHead = Math.floor(index / headDim) % kvHeadCount;
  const position = Math.floor(index / (headDim * kvHeadCount));
  const page = table[Math.floor(position / pageSize)] ?? Number.NaN;
  return ((page * kvHeadCount + kvHead) * pageSize + (position % pageSize)) * headDim + dimension;
}
