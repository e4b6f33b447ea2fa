// What an upgrade keeps of the active conversation, copied to CPU memory beside the steps: should the device be lost, it is there.
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

  /** `onFailed`: an upgrade goes on without its copy; should it ever be needed, K/V is computed anew. */
  constructor(onFailed: (error: unknown) => void) {
    this.#onFailed = onFailed;
  }

  /** Copies what an upgrade from `boundary` on will keep, in place of what was copied before. */
  async save(gpu: Gpu, sequence: Sequence | null, boundary: number): Promise<void> {
    this.stop(); // the next upgrade may free what it reads
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

  /** The copy, once. */
  take(): SavedSequence | null {
    const saved = this.#saved;
    this.#saved = null;
    return saved;
  }

  stop(): void {
    this.#saving?.abort();
  }
}
