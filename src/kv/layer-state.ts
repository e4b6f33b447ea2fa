// What a group of layers remembers of one sequence. Attention remembers K and V of every position; other mixers will remember a state that each
// position changes. Sequences, snapshots and rebuilds go by this interface, and know neither.

import type { KvGroup } from "./kv-cache";
import type { HeldPages } from "./kv-snapshot";

export interface LayerState {
  /** The layers, and the pool that their memory comes from. */
  readonly group: KvGroup;
  /** Positions from the start that a real pass has put in, or will in queue order. Nothing beyond is ever read. */
  readonly cachedLength: number;
  /** Of them, those whose residual leaving the group is recorded, for an upgrade that begins there: 0 where none is kept. */
  readonly recordedLength: number;
  /** Positions that there is room for. */
  readonly capacity: number;
  /** Changes whenever `places` do: what kernels were told before is then stale. */
  readonly version: number;
  /** Where it lies in the group's buffers, as kernels are told: of paged K/V the page of each run of positions. */
  readonly places: readonly number[];

  /** Room for `positions`; false, with nothing changed, where the pool has too little. */
  reserve(positions: number): boolean;
  /** Makes what the next position changes its own, where others share it. False: the pool has no room for the copy. */
  own(): boolean;
  /** The first `length` positions have been put in, or will be in queue order. */
  append(length: number): void;
  /**
   * Forgets positions from `length` on, and gives how many are left. K/V can be cut anywhere; a recurrent state only goes back to its last checkpoint
   * at or before `length`.
   */
  truncate(length: number): number;
  /** Keeps the way back to what is there now: at the end of a prompt and of a turn. */
  checkpoint(): void;

  /** Makes what it has of `ids` known to sequences that begin alike. */
  publish(ids: readonly number[]): void;
  /** Takes what others have of `ids`, where that is more. */
  adopt(ids: readonly number[]): void;

  /** What a snapshot copies: the first `length` positions, all unless given. */
  held(length?: number): HeldPages;
  /** A copy of `length` positions from a snapshot is in its places, and of `recorded` residuals. */
  restored(length: number, recorded: number): void;
  /** Gives all of it back to the pool. */
  free(): void;
}
