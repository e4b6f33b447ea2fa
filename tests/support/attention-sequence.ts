// Random sequences for the attention kernels: queries, and K and V in pages among those of other sequences.
import type { CachedHeads } from "../../src/kernels/cached-heads";
import type { AttentionInput } from "../reference/paged-attention-prefill";
import { randomTable, scatter, stored } from "../reference/paged-cache";
import type { Random } from "./random";
import { stepState } from "./step-state";

// Query heads, K/V heads, dimensions: groups of 1 to 8, Falcon's of 4 and 71 on one head, and what fills no workgroup evenly.
export const HEADS = {
  "4/2×16": { headCount: 4, kvHeadCount: 2, headDim: 16, pageSize: 16 },
  "9/3×64": { headCount: 9, kvHeadCount: 3, headDim: 64, pageSize: 32 },
  "14/2×64": { headCount: 14, kvHeadCount: 2, headDim: 64, pageSize: 16 },
  "3/3×32": { headCount: 3, kvHeadCount: 3, headDim: 32, pageSize: 64 },
  "71/1×32": { headCount: 71, kvHeadCount: 1, headDim: 32, pageSize: 16 },
  "4/1×80": { headCount: 4, kvHeadCount: 1, headDim: 80, pageSize: 128 },
  "8/1×128": { headCount: 8, kvHeadCount: 1, headDim: 128, pageSize: 16 },
  "5/1×256": { headCount: 5, kvHeadCount: 1, headDim: 256, pageSize: 32 },
} as const;
export type HeadsName = keyof typeof HEADS;
export const HEAD_NAMES = Object.keys(HEADS) as HeadsName[];
/** Each layout as a sum of all splits and directly, K/V's formats in turn: every two of the three meet, in half of the compilations. */
export const DECODE_CASES = HEAD_NAMES.flatMap((heads, index) =>
  [true, false].map((direct, way) => ({ heads, direct, kvFormat: (index + way) % 2 === 0 ? "f32" : "f16" }) as const),
);

/** How scores are spread over the positions. */
export type Scores =
  /** Scaled scores of standard deviation 3: many positions count. */
  | "soft"
  /** q·k up to 1e5 before scaling: one position counts. */
  | "peaked"
  /** q·k near 1e5 at every position, as where K has a large bias, and apart by as little as when soft. */
  | "lifted";

/** What f32 allows: scores near 1e5 are thousandths apart, and their weights wrong by as much. Measured: 1e-13, 5e-11, 2e-8. */
export const MAX_NMSE: Readonly<Record<Scores, number>> = { soft: 1e-12, peaked: 1e-9, lifted: 1e-6 };

export interface Sequence {
  readonly layout: CachedHeads;
  readonly positions: number;
  readonly qkvStride: number;
  /** [positions, qkvStride]; only the queries are set, the rest must not be read. */
  readonly qkv: Float32Array<ArrayBuffer>;
  /** [positions, kvHeadCount, headDim] as the cache holds them, in its precision. */
  readonly keys: Float32Array<ArrayBuffer>;
  readonly values: Float32Array<ArrayBuffer>;
}

const PADDING = 32; // floats behind a row's end

export function randomSequence(random: Random, layout: CachedHeads, positions: number, scores: Scores = "soft"): Sequence {
  const { headCount, kvHeadCount, headDim } = layout;
  const queryFloats = headCount * headDim;
  const qkvStride = queryFloats + 2 * kvHeadCount * headDim + PADDING;
  const scale = Math.sqrt(scores === "peaked" ? 25_000 / Math.sqrt(headDim) : 3);
  // A constant c in every q and k adds headDim · c² to every q·k.
  const lift = scores === "lifted" ? Math.sqrt(1e5 / headDim) : 0;
  const queries = random.normal([positions * queryFloats], scale);
  const qkv = new Float32Array(positions * qkvStride).fill(Number.NaN);
  queries.forEach((value, i) => {
    qkv[Math.floor(i / queryFloats) * qkvStride + (i % queryFloats)] = value + lift;
  });
  const keys = random.normal([positions * kvHeadCount * headDim], scale).map((value) => value + lift);
  const values = random.normal([positions * kvHeadCount * headDim]);
  return { layout, positions, qkvStride, qkv, keys: stored(layout, keys), values: stored(layout, values) };
}

/** The sequence's rows [position, position + rows) and its cache up to them, as the kernels bind them. */
export function stepTensors(random: Random, sequence: Sequence, position: number, rows: number) {
  const { layout, qkv, qkvStride, keys, values } = sequence;
  const cached = (position + rows) * layout.kvHeadCount * layout.headDim;
  const table = randomTable(random, position + rows, layout.pageSize);
  return {
    state: stepState({ position, rows }),
    qkv: qkv.slice(position * qkvStride, (position + rows) * qkvStride),
    table,
    keys: scatter(random, layout, table, keys.subarray(0, cached)),
    values: scatter(random, layout, table, values.subarray(0, cached)),
  };
}

/** What the references take. */
export function stepInput(sequence: Sequence, position: number, rows: number, window: number | null): AttentionInput {
  const { layout, qkv, qkvStride, keys, values } = sequence;
  return { ...layout, window, qkvStride, qkv: qkv.subarray(position * qkvStride), keys, values, position, rows };
}
