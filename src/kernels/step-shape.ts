// What changes from one step to the next and is known on the CPU: it sizes dispatches. All else is in the GPU's state.

export interface StepShape {
  /** Rows (token positions) that the step computes: one for each sequence in decode, up to the chunk's size in prefill. */
  readonly rows: number;
  /** Upper bound of the positions in any of the step's sequences after it. */
  readonly positions: number;
  /** The rows are of different sequences: each must be computed by itself. */
  readonly apart?: boolean;
}
