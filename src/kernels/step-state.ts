// The rows of a step in the kernels' layout: State of shaders/include/state.wgsl.

/** One token position that a step computes. */
export interface StepRow {
  /** The token. */
  readonly id: number;
  /** The position in its sequence. */
  readonly position: number;
  /** The slot of its sequence, with page tables, sampling settings and token counts. */
  readonly slot: number;
  /** Tokens sampled since the run began. */
  readonly step: number;
  /** 0, or the reason why its run ended (`SAMPLE_STOP`). */
  readonly stopped: number;
}

export const STATE_HEAD_BYTES = 16;
export const ROW_BYTES = 20;

export function stateBytes(rows: number): number {
  return STATE_HEAD_BYTES + rows * ROW_BYTES;
}

/** Encodes a step of these rows. Absent fields of a row are 0. */
export function encodeState(rows: readonly Partial<StepRow>[]): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(stateBytes(rows.length) / 4);
  words[0] = rows.length;
  rows.forEach(({ id = 0, position = 0, slot = 0, step = 0, stopped = 0 }, row) => {
    words.set([id, position, slot, step, stopped], (STATE_HEAD_BYTES + row * ROW_BYTES) / 4);
  });
  return words;
}

export interface ChunkRows {
  /** The position of the first row. */
  readonly position: number;
  readonly ids: readonly number[];
  readonly slot: number;
  /** Number of tokens that its run has sampled before. */
  readonly sampledBefore: number;
}

/** The rows of a chunk: consecutive positions of one sequence. */
export function chunkRows({ position, ids, slot, sampledBefore }: ChunkRows): StepRow[] {
  return ids.map((id, row) => ({ id, position: position + row, slot, step: sampledBefore, stopped: 0 }));
}
