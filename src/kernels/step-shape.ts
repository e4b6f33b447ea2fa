// What changes from one step to the next and is known on the CPU: it sizes dispatches. All else is in the GPU's state.

export interface StepShape {
  /** Rows (token positions) that the step computes: 1 in decode, up to the chunk's size in prefill. */
  readonly rows: number;
  /** Upper bound of the positions in the sequence after the step. */
  readonly positions: number;
}
