// Brings one upgrade to its commit, beside whatever else the engine does: slices of the rebuild between decode steps, whole chunks while nobody
// asks for an answer. Whoever has the engine's turn calls it, so that nothing here races.

import type { Sequence } from "../steps/sequence";
import { isShort, type RebuildPacer } from "./rebuild-pacer";
import type { Upgrade } from "./upgrade";

/**
 * - `background`: the old stage answers while K/V is rebuilt; the new one takes over in mid-answer, at once where that is ready.
 * - `turn-boundary`: the same, but the new stage takes over between two answers.
 * - `blocking`: everything at once, as soon as the weights are there.
 */
export type UpgradePolicy = "background" | "turn-boundary" | "blocking";

// Positions that a commit may catch up with in one go: about the work of a step or two, as tiles and as rows by themselves.
const FINAL_ROWS = 16;
const FINAL_VECTOR_ROWS = 8;
const MOST_FINAL_ROWS = 64;
const FINAL_GROWTH = 1.5;

export interface ChunkSizes {
  /** Rows of a chunk where nothing waits for it. */
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
  /** Positions that each sequence may catch up with in one go, where they are no longer the first number. */
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

  /** Slices submitted since this was last asked. */
  takeSlices(): number {
    const slices = this.#slices;
    this.#slices = 0;
    return slices;
  }

  /** Whether a run that begins with `sequence` may commit first: there is nothing to rebuild, or the policy is to wait for it. */
  async isReadyAtStart(sequence: Sequence): Promise<boolean> {
    const { rebuild } = this.upgrade;
    if (!rebuild) return true;
    const length = rebuild.reach(sequence);
    if (length > 0) await rebuild.prepare(sequence, length);
    if (this.policy === "blocking") this.#rebuildAll(sequence, length);
    return rebuild.remaining(sequence, length) <= 0;
  }

  /** Whether all is ready, and only the policy keeps it from being committed in mid-answer. */
  get awaitsPause(): boolean {
    return this.#awaitsPause;
  }

  /**
   * Does its share before a decode step of `rows`: "commit" when all is ready, "wait" when what is left needs tokens that are still under way, "go"
   * otherwise.
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

  /** One chunk for an idle sequence; true when it has all that it can have, so that the upgrade can be committed. */
  async advanceIdle(sequence: Sequence): Promise<boolean> {
    const { rebuild } = this.upgrade;
    if (!rebuild) return true;
    const length = rebuild.reach(sequence);
    await rebuild.prepare(sequence, length);
    return !rebuild.advance(sequence, length, { rows: this.#chunkRows, layers: Number.POSITIVE_INFINITY });
  }

  /** The sequence whose chunk is under way, or the first that still lacks too much. */
  #nextToRebuild(rows: readonly ActiveRow[]): ActiveRow | undefined {
    const amid = rows.find(({ sequence }) => this.upgrade.rebuild?.isAmid(sequence));
    return amid ?? rows.find((row) => !this.#isNearlyDone(row));
  }

  /** One slice: a layer of a chunk. False: there is nothing to do before tokens come back. */
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
   * Where decoding outruns the slices, what is left never gets short enough: after a chunk of all that was missing too much has come, or after any chunk
   * as much is missing as before. The bound rises then.
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
    // A walk that is still to be made is made between runs.
    return left.every(({ sequence, position }) => sequence.tokens.length < position) ? "wait" : "go";
  }

  #rebuildAll(sequence: Sequence, length: number): void {
    const { rebuild } = this.upgrade;
    if (!rebuild) return;
    const rows = () => (isShort(rebuild.remaining(sequence, length), this.#vectorRows) ? this.#vectorRows : this.#chunkRows);
    while (rebuild.advance(sequence, length, { rows: rows(), layers: Number.POSITIVE_INFINITY })) this.#slices += rebuild.layersAbove;
  }
}
