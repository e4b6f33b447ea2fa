// Brings one upgrade to its commit beside the engine's other work: slices of the rebuild between decode steps, whole chunks while no answer is asked for.
// Only the holder of the engine's turn calls it, so nothing here races.

import type { Sequence } from "../steps/sequence";
import { isShort, type RebuildPacer } from "./rebuild-pacer";
import type { Upgrade } from "./upgrade";

/**
 * - `background`: the old stage answers while K/V is rebuilt. The new one takes over in mid-answer as soon as it is ready.
 * - `turn-boundary`: the same, but the new stage takes over between two answers.
 * - `blocking`: rebuilds everything at once, as soon as the weights are loaded.
 */
export type UpgradePolicy = "background" | "turn-boundary" | "blocking";

// Positions that a commit may rebuild in one go: about the work of one or two steps, in tiles and as single rows.
const FINAL_ROWS = 16;
const FINAL_VECTOR_ROWS = 8;
const MOST_FINAL_ROWS = 64;
const FINAL_GROWTH = 1.5;

export interface ChunkSizes {
  /** Rows of a chunk while no answer waits for it. */
  readonly chunkRows: number;
  /** See `ScratchLayout`. */
  readonly vectorRows: number;
}

/** A sequence that decodes, and the position of its next step. */
export interface ActiveRow {
  readonly sequence: Sequence;
  readonly position: number;
}

export class UpgradeRun {
  readonly upgrade: Upgrade;
  readonly policy: UpgradePolicy;
  readonly #chunkRows: number;
  readonly #vectorRows: number;
  readonly #pacer: RebuildPacer;
  /** Positions that a sequence may rebuild in one go, if the bound was raised for it. */
  readonly #finalRows = new WeakMap<Sequence, number>();
  #awaitsPause = false;
  /** Positions that were missing when the chunk under way began. */
  #missing = 0;
  /** Rows of the chunk under way; one layer of them is a slice. */
  #sliceRows = 0;
  #slices = 0;

  constructor(upgrade: Upgrade, policy: UpgradePolicy, { chunkRows, vectorRows }: ChunkSizes, pacer: RebuildPacer) {
    this.upgrade = upgrade;
    this.policy = policy;
    this.#chunkRows = chunkRows;
    this.#vectorRows = vectorRows;
    this.#pacer = pacer;
  }

  /** Slices submitted since the last call. */
  takeSlices(): number {
    const slices = this.#slices;
    this.#slices = 0;
    return slices;
  }

  /** Whether a run that begins with `sequence` may commit first: there is nothing to rebuild, or the policy is to wait for the rebuild. */
  async isReadyAtStart(sequence: Sequence): Promise<boolean> {
    const { rebuild } = this.upgrade;
    if (!rebuild) return true;
    const length = rebuild.reach(sequence);
    if (length > 0) await rebuild.prepare(sequence, length);
    if (this.policy === "blocking") this.#rebuildAll(sequence, length);
    return rebuild.remaining(sequence, length) <= 0;
  }

  /** Whether everything is ready and only the policy prevents a commit in mid-answer. */
  get awaitsPause(): boolean {
    return this.#awaitsPause;
  }

  /**
   * Does some work before a decode step of `rows`. "commit": everything is ready. "wait": the rest needs tokens that are still under way. "go": otherwise.
   */
  beforeStep(rows: readonly ActiveRow[]): "commit" | "wait" | "go" {
    const { rebuild } = this.upgrade;
    const isMidAnswer = this.policy === "turn-boundary";
    if (!rebuild) {
      this.#awaitsPause = isMidAnswer;
      return isMidAnswer ? "go" : "commit";
    }
    if (this.policy === "blocking") return this.#finish(rows);
    for (let slices = this.#pacer.slicesNow(); slices > 0; slices--) {
      const row = this.#nextToRebuild(rows);
      if (!row || !this.#advance(row)) break;
    }
    const isReady = rows.every((row) => this.#isNearlyDone(row));
    this.#awaitsPause = isMidAnswer && isReady;
    return isMidAnswer || !isReady ? "go" : this.#finish(rows);
  }

  /** Computes one chunk for an idle sequence. Returns true if the sequence has all that it can have, so that the upgrade can be committed. */
  async advanceIdle(sequence: Sequence): Promise<boolean> {
    const { rebuild } = this.upgrade;
    if (!rebuild) return true;
    const length = rebuild.reach(sequence);
    await rebuild.prepare(sequence, length);
    return !rebuild.advance(sequence, length, { rows: this.#chunkRows, layers: Number.POSITIVE_INFINITY });
  }

  /** The sequence whose chunk is under way, else the first that still lacks too many positions. */
  #nextToRebuild(rows: readonly ActiveRow[]): ActiveRow | undefined {
    const amid = rows.find(({ sequence }) => this.upgrade.rebuild?.isAmid(sequence));
    return amid ?? rows.find((row) => !this.#isNearlyDone(row));
  }

  /** Submits one slice: a layer of a chunk. Returns false if there is nothing to do before tokens come back. */
  #advance({ sequence, position }: ActiveRow): boolean {
    const { rebuild } = this.upgrade;
    if (!rebuild) return false;
    if (!rebuild.isAmid(sequence)) {
      this.#missing = rebuild.remaining(sequence, position);
      this.#sliceRows = Math.min(this.#pacer.chunkRows(this.#missing), this.#chunkRows);
    }
    if (!rebuild.advance(sequence, position, { rows: this.#sliceRows, layers: 1 })) return false;
    this.#slices++;
    if (!rebuild.isAmid(sequence)) this.#chunkEnded(sequence, rebuild.remaining(sequence, position));
    return true;
  }

  #isNearlyDone({ sequence, position }: ActiveRow): boolean {
    const { rebuild } = this.upgrade;
    if (!rebuild || rebuild.isAmid(sequence)) return false;
    return rebuild.remaining(sequence, position) <= this.#finalRowsOf(sequence);
  }

  /**
   * Raises the bound if decode outruns the slices, since the rest would never become short enough. That is so if too many positions are missing after a
   * chunk of all missing ones, or if as many are missing after a chunk as before it.
   */
  #chunkEnded(sequence: Sequence, remaining: number): void {
    const finalRows = this.#finalRowsOf(sequence);
    const enough = this.#missing <= this.#sliceRows ? finalRows : this.#missing - 1;
    if (remaining > enough) this.#finalRows.set(sequence, Math.min(this.#chunkRows, MOST_FINAL_ROWS, FINAL_GROWTH * finalRows));
  }

  #finalRowsOf(sequence: Sequence): number {
    return this.#finalRows.get(sequence) ?? (this.#vectorRows > 1 ? FINAL_VECTOR_ROWS : FINAL_ROWS);
  }

  #finish(rows: readonly ActiveRow[]): "commit" | "wait" | "go" {
    const { rebuild } = this.upgrade;
    if (!rebuild) return "commit";
    for (const { sequence, position } of rows) this.#rebuildAll(sequence, position);
    const left = rows.filter(({ sequence, position }) => rebuild.remaining(sequence, position) > 0);
    if (left.length === 0) return "commit";
    // Missing walks are made between runs.
    return left.every(({ sequence, position }) => sequence.tokens.length < position) ? "wait" : "go";
  }

  #rebuildAll(sequence: Sequence, length: number): void {
    const { rebuild } = this.upgrade;
    if (!rebuild) return;
    const rows = () => (isShort(rebuild.remaining(sequence, length), this.#vectorRows) ? this.#vectorRows : this.#chunkRows);
    while (rebuild.advance(sequence, length, { rows: rows(), layers: Number.POSITIVE_INFINITY })) this.#slices += rebuild.layersAbove;
  }
}
