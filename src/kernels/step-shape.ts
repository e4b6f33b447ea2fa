// The part of a step that changes from one step to the next and is known on the CPU. It sizes dispatches. The GPU's state holds the rest.

export interface StepShape {
  /** Rows (token positions) that the step computes: one for each sequence in decode, up to the chunk's size in prefill. */
  readonly rows: number;
  /** Upper bound of the number of positions in any of the step's sequences after it. */
  readonly positions: number;
  /** The rows belong to different sequences, so each must be computed by itself. */
  readonly apart?: boolean;
}
