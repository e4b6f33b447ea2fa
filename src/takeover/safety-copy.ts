// Copies the K/V of the active conversation that an upgrade keeps to CPU memory, beside the steps, in case the device is lost.
import type { Gpu } from "../gpu/device";
import type { KvSnapshot } from "../kv/kv-snapshot";
import type { Sequence } from "../steps/sequence";
import { snapshotFront } from "./restore";

export interface SavedSequence {
  readonly sequence: Sequence;
  readonly snapshot: KvSnapshot;
}

export class SafetyCopy {
  readonly #onFailed: (error: unknown) => void;
  #saved: SavedSequence | null = null;
  /** Ends the copy that is under way. */
  #saving: AbortController | null = null;

  /** `onFailed`: the upgrade goes on without its copy. If the copy is needed later, K/V is recomputed instead. */
  constructor(onFailed: (error: unknown) => void) {
    this.#onFailed = onFailed;
  }

  /** Copies the K/V that an upgrade from `boundary` on will keep. Replaces the earlier copy. */
  async save(gpu: Gpu, sequence: Sequence | null, boundary: number): Promise<void> {
    this.stop(); // the next upgrade may free the pages that the copy reads
    const saving = new AbortController();
    this.#saving = saving;
    this.#saved = null;
    if (!sequence) return;
    try {
      const snapshot = await snapshotFront(gpu, sequence, boundary, saving.signal);
      if (!saving.signal.aborted) this.#saved = snapshot && { sequence, snapshot };
    } catch (error) {
      if (!saving.signal.aborted && !(await gpu.lossError())) this.#onFailed(error);
    }
  }

  /** Returns the copy, once. */
  take(): SavedSequence | null {
    const saved = this.#saved;
    this.#saved = null;
    return saved;
  }

  stop(): void {
    this.#saving?.abort();
  }
}
