// The rows of a step as kernels read them: State of shaders/include/state.wgsl.

/** One token position that a step computes. */
export interface StepRow {
  /** The token. */
  readonly id: number;
  /** In its sequence. */
  readonly position: number;
  /** Of its sequence: its page tables, sampling settings and token counts. */
  readonly slot: number;
  /** Tokens sampled since the run began. */
  readonly step: number;
  /** 0, or why its run ended (`SAMPLE_STOP`). */
  readonly stopped: number;
}

export const STATE_HEAD_BYTES = 16;
export const ROW_BYTES = 20;

export function stateBytes(rows: number): number {
  return STATE_HEAD_BYTES + rows * ROW_BYTES;
}

/** A step of these rows. What a row leaves out is 0. */
export function encodeState(rows: readonly Partial<StepRow>[]): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(stateBytes(rows.length) / 4);
  words[0] = rows.length;
  rows.forEach(({ id = 0, position = 0, slot = 0, step = 0, stopped = 0 }, row) => {
    words.set([id, position, slot, step, stopped], (STATE_HEAD_BYTES + row * ROW_BYTES) / 4);
  });
  return words;
}

export interface ChunkRows {
  /** Of the first. */
  readonly position: number;
  readonly ids: readonly number[];
  readonly slot: number;
  /** Tokens that its run sampled before. */
  readonly sampledBefore: number;
}

/** The rows of a chunk: consecutive positions of one sequence. */
export function chunkRows({ position, ids, slot, sampledBefore }: ChunkRows): StepRow[] {
  return ids.map((id, row) => ({ id, position: position + row, slot, step: sampledBefore, stopped: 0 }));
}
