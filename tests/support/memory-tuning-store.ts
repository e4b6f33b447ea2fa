// A tuning store in memory.
import type { TuningStore } from "../../src/tuning/gemv-tunings";

export interface MemoryTuningStore extends TuningStore {
  text: string | null;
}

export function memoryTuningStore(text: string | null = null): MemoryTuningStore {
  return {
    text,
    async read() {
      return this.text;
    },
    async write(next) {
      this.text = next;
    },
  };
}
