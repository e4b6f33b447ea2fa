// Rows of a step through layers, on a lane: from their tokens or from a recorded residual, recording residuals on the way.
import { present } from "../assert";
import type { StepShape } from "../kernels/step-shape";
import type { Lane } from "./lane";
import type { ResidualSteps } from "./residual-steps";
import type { Step } from "./vector-step";

export interface Walk {
  readonly lane: Lane;
  /** The tokens in the lane's state into its `x`. */
  readonly embed: readonly Step[];
  readonly residuals: ResidualSteps;
  /** Rows through a layer; nothing for an absent one. */
  readonly layer: (layer: number, shape: StepShape) => readonly Step[];
}

/** Puts what enters layer `first` into `x`: embeddings of the state's tokens at layer 0, else the recorded residual. */
export function encodeInput(pass: GPUComputePassEncoder, walk: Walk, shape: StepShape, first: number): void {
  const steps = first === 0 ? walk.embed : [present(walk.residuals.loads.get(first), `a residual entering layer ${first}`)];
  for (const step of steps) step.encode(pass, shape);
}

/** Layers [first, end); the residual is in `x` before and after. */
export function encodeLayers(pass: GPUComputePassEncoder, walk: Walk, shape: StepShape, first: number, end: number): void {
  for (let layer = first; layer < end; layer++) {
    walk.residuals.stores.get(layer)?.encode(pass, shape);
    for (const step of walk.layer(layer, shape)) step.encode(pass, shape);
  }
}
