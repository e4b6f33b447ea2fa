// A product of a decode step: each row by itself, or several at once where kernels for that have been bound.
import type { BoundKernel } from "../gpu/kernel";
import type { GemvBatchChoice } from "../kernels/gemv-batch";
import type { StepShape } from "../kernels/step-shape";

/** Something that a step dispatches. */
export interface Step {
  readonly name: string;
  encode(pass: GPUComputePassEncoder, shape: StepShape): void;
}

/** Binds the kernel chosen for so many rows; null if that is the one that computes each by itself. */
type BindRows = (choice: GemvBatchChoice, stepRows: number) => Promise<BoundKernel<StepShape> | null>;

export class VectorStep implements Step {
  readonly name: string;
  readonly #single: BoundKernel<StepShape>;
  readonly #bindRows: BindRows;
  /** By rows of the step. */
  #batched: readonly (BoundKernel<StepShape> | null)[] = [];

  constructor(single: BoundKernel<StepShape>, bindRows: BindRows) {
    this.name = single.name;
    this.#single = single;
    this.#bindRows = bindRows;
  }

  /** Steps of up to `mostRows` rows that are apart use what is chosen for them, from when this resolves on. */
  async prepareBatches(choice: GemvBatchChoice, mostRows: number): Promise<void> {
    this.#batched = await Promise.all(Array.from({ length: mostRows + 1 }, (_, rows) => (rows > 1 ? this.#bindRows(choice, rows) : null)));
  }

  encode(pass: GPUComputePassEncoder, shape: StepShape): void {
    const batched = shape.apart ? this.#batched[shape.rows] : null;
    (batched ?? this.#single).encode(pass, shape);
  }
}
