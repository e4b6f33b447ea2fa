// The state of a step as kernels bind it, for their tests.
import { encodeState, ROW_BYTES, STATE_HEAD_BYTES, type StepRow } from "../../src/kernels/step-state";

export interface ChunkState {
  /** Of the first row. */
  readonly position: number;
  readonly rows: number;
  readonly slot?: number;
  readonly step?: number;
  readonly stopped?: number;
  /** Of the rows; 0 each unless given. */
  readonly ids?: ArrayLike<number>;
}

/** A step over consecutive positions of one sequence. */
export function stepState({ position, rows, ids, ...each }: ChunkState): Uint32Array<ArrayBuffer> {
  return encodeState(Array.from({ length: rows }, (_, row) => ({ ...each, id: ids?.[row] ?? 0, position: position + row })));
}

/** A step whose rows are of different sequences. What a row leaves out is 0. */
export function batchState(rows: readonly Partial<StepRow>[]): Uint32Array<ArrayBuffer> {
  return encodeState(rows);
}

/** The rows of a state that was read back. */
export function decodeState(words: Uint32Array): StepRow[] {
  const [count = 0] = words;
  return Array.from({ length: count }, (_, row) => {
    const at = (STATE_HEAD_BYTES + row * ROW_BYTES) / 4;
    const [id = 0, position = 0, slot = 0, step = 0, stopped = 0] = words.subarray(at, at + ROW_BYTES / 4);
    return { id, position, slot, step, stopped };
  });
}
