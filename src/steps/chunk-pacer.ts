// Decides how many rows the next prefill chunk has and how many layers go into one submit, so that an abort, the page that shares the device, and a
// driver's watchdog can wait that long. The split into chunks changes results by rounding at most. docs/decisions/0014 says how it learns.
import type { ProgramContext } from "../model/program-context";
import type { ModelConfig } from "../weights/model-config";
import { fitLine, type Sample } from "./chunk-times";

/** What a chunk's rows should take. A chunk's fixed time comes on top: fewer rows would not shorten it. */
const TARGET_MS = 100;
/** What one submit should take. The page is drawn between two submits. */
const SUBMIT_MS = 25;
// More layers in a submit gain nothing. With fewer than all, the GPU starts while the rest is encoded.
const MOST_LAYERS = 8;
const FIRST_ROWS = 256;
const LEAST_ROWS = 32;
// Multiply-adds in a submit while the device is unknown: 0.16 s at 100 GFLOP/s, 0.8 s at 20. Windows resets a GPU after 2 s.
const FIRST_SUBMIT_WORK = 8e9;
/** Beside decode steps, a chunk takes this part of the time: readers of other answers wait for it between two tokens. */
const SHARED_PART = 4;
/** A chunk has at most this many times the rows of the largest one measured, unless even strictly proportional time allows more. */
const GROWTH = 2;
/** Where all recent chunks had about the same rows, one with this many times as many tells fixed time from the rows' time. */
const PROBE = 1.5;
// No device has that much fixed time: longer chunks are the rows', and larger ones would only come nearer to a watchdog.
const MOST_FIXED_MS = 1000;
// From this size on, chunks are whole tiles. Below it, rounding down would undo a small step up.
const TILE_ROWS = 64;
const ROUNDED_FROM = 2 * TILE_ROWS;
const RECENT_CHUNKS = 8;

export interface ChunkPacer {
  /** Chunks that may be submitted and not done. One until the first was measured: a second would be as large a guess. */
  readonly chunksAhead: number;
  /**
   * Rows of the next chunk of `remaining` rows, at least 1. Fewer where others' decode steps go between chunks (`isShared`). `part`: the part of the
   * model's layers that the chunk runs through.
   */
  next(remaining: number, isShared?: boolean, part?: number): number;
  /** Layers in one submit of a chunk of `rows` rows. */
  layersPerSubmit(rows: number): number;
  /** A chunk took this long on the device. */
  took(rows: number, ms: number, part?: number): void;
}

/** What a model's layers compute. */
export interface LayerWork {
  readonly layerCount: number;
  /** Multiply-adds of one row in one layer's matrices. */
  readonly rowWork: number;
}

/** The pacer for a model on its device. On software adapters pacing gains nothing, and each extra chunk costs. */
export function pacerFor({ gpu, config, scratch }: ProgramContext): ChunkPacer {
  const { chunkRows, vectorRows } = scratch.layout;
  return gpu.features.software ? fixedChunks(chunkRows, vectorRows) : pacedChunks(chunkRows, vectorRows, layerWork(config));
}

type LayerShape = "layerCount" | "hiddenSize" | "headCount" | "kvHeadCount" | "headDim" | "intermediateSize" | "activation";

export function layerWork(config: Pick<ModelConfig, LayerShape>): LayerWork {
  const { layerCount, hiddenSize, headCount, kvHeadCount, headDim, intermediateSize, activation } = config;
  const attention = 2 * (headCount + kvHeadCount) * headDim;
  const mlp = (activation === "silu-gated" ? 3 : 2) * intermediateSize;
  return { layerCount, rowWork: hiddenSize * (attention + mlp) };
}

/** Chunks of `rows` rows, however long they take. `vectorRows`: see `ScratchLayout`. */
export function fixedChunks(rows: number, vectorRows: number): ChunkPacer {
  return {
    chunksAhead: 2,
    next: (remaining) => withoutShortRest(remaining, rows, vectorRows),
    layersPerSubmit: () => MOST_LAYERS,
    took: () => undefined,
  };
}

/** Chunks of at most `maxRows` rows, sized by how long recent ones took. Without `work`, a first chunk of any model is taken for a small one. */
export function pacedChunks(maxRows: number, vectorRows: number, work: LayerWork = { layerCount: 1, rowWork: 1 }): ChunkPacer {
  const least = Math.min(maxRows, Math.max(LEAST_ROWS, 2 * vectorRows + 1)); // can be split without leaving a few rows
  const within = (rows: number) => Math.min(maxRows, Math.max(least, wholeTiles(rows)));
  let recent: readonly Sample[] = [];
  let wanted = within(Math.min(FIRST_ROWS, FIRST_SUBMIT_WORK / work.rowWork));
  return {
    get chunksAhead() {
      return recent.length > 0 ? 2 : 1;
    },
    next: (remaining, isShared = false, part = 1) => {
      const rows = wanted / part / (isShared ? SHARED_PART : 1);
      return withoutShortRest(remaining, within(rows), vectorRows);
    },
    layersPerSubmit: (rows) => layersPerSubmit(rows, recent, work),
    took: (rows, ms, part = 1) => {
      if (rows <= Math.min(vectorRows, maxRows - 1)) return; // computed by decode's kernels, which says nothing of a chunk in tiles
      recent = [...recent.slice(1 - RECENT_CHUNKS), { rows, ms: ms / part }];
      wanted = within(fittingRows(recent));
    },
  };
}

/** Rows whose part of a chunk's time is `TARGET_MS`, from the chunks measured last (at least one). */
function fittingRows(recent: readonly Sample[]): number {
  // Safe whatever part of the time is fixed: more rows take at most proportionally longer.
  const perRow = msPerRow(recent);
  const proportional = TARGET_MS / perRow;
  const most = Math.max(...recent.map(({ rows }) => rows));
  const line = fitLine(recent);
  if (line) return Math.max(proportional, Math.min(GROWTH * most, TARGET_MS / line.msPerRow));
  const isWorthProbing = recent.length === RECENT_CHUNKS && perRow * most < MOST_FIXED_MS;
  return isWorthProbing ? Math.max(proportional, PROBE * most) : proportional;
}

/** So many that a submit takes `SUBMIT_MS`; on a device that is not measured yet, so many that no watchdog minds. */
function layersPerSubmit(rows: number, recent: readonly Sample[], { layerCount, rowWork }: LayerWork): number {
  const layers = recent.length === 0 ? FIRST_SUBMIT_WORK / (rowWork * rows) : (SUBMIT_MS * layerCount) / (msPerRow(recent) * rows);
  return Math.max(1, Math.min(MOST_LAYERS, Math.floor(layers)));
}

/** Of the last two chunks together: a clock that ticks coarsely may give all of their time to one of them. */
function msPerRow(recent: readonly Sample[]): number {
  const last = recent.slice(-2);
  const ms = last.reduce((sum, sample) => sum + sample.ms, 0);
  return Math.max(ms, 0.1) / last.reduce((sum, { rows }) => sum + rows, 0);
}

function wholeTiles(rows: number): number {
  return rows < ROUNDED_FROM ? Math.floor(rows) : Math.floor(rows / TILE_ROWS) * TILE_ROWS;
}

/**
 * A few rows by themselves go through the kernels of decode, whose sums differ in their last bits. A split does not leave a few over, lest the result
 * depend on where the splits fell.
 */
function withoutShortRest(remaining: number, rows: number, vectorRows: number): number {
  if (remaining <= rows) return remaining;
  const lacking = vectorRows + 1 - (remaining - rows);
  return lacking > 0 && rows - lacking > vectorRows ? rows - lacking : rows;
}
