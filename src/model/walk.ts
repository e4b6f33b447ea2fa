// Takes the rows of a step through layers on a lane. They start from their tokens or from a recorded residual; residuals are recorded on the way.
import { present } from "../assert";
import type { StepShape } from "../kernels/step-shape";
import type { Lane } from "./lane";
import type { ResidualSteps } from "./residual-steps";
import type { Step } from "./vector-step";

export interface Walk {
  readonly lane: Lane;
  /** Embeds the tokens of the lane's state into its `x`. */
  readonly embed: readonly Step[];
  readonly residuals: ResidualSteps;
  /** The dispatches that take rows through a layer; none for an absent one. */
  readonly layer: (layer: number, shape: StepShape) => readonly Step[];
}

/** Writes the input of layer `first` to `x`: the embeddings of the state's tokens for layer 0, otherwise the recorded residual. */
export function encodeInput(pass: GPUComputePassEncoder, walk: Walk, shape: StepShape, first: number): void {
  const steps = first === 0 ? walk.embed : [present(walk.residuals.loads.get(first), `a residual entering layer ${first}`)];
  for (const step of steps) step.encode(pass, shape);
}

/** Encodes layers [first, end). `x` holds the residual before and after. */
export function encodeLayers(pass: GPUComputePassEncoder, walk: Walk, shape: StepShape, first: number, end: number): void {
  for (let layer = first; layer < end; layer++) {
    walk.residuals.stores.get(layer)?.encode(pass, shape);
    for (const step of walk.layer(layer, shape)) step.encode(pass, shape);
  }
}
