// What answers now. The engine asks for it at each step, so that handing over to another one is a single assignment.
import type { Gpu } from "../gpu/device";
import type { KvCache } from "../kv/kv-cache";
import type { Model } from "../model/model";
import type { RowSet } from "../weights/row-set";
import type { Sampler } from "./sampler";
import type { Stepper } from "./stepper";

/** A model in a stage, on a device, with its K/V and what samples from it. */
export interface Runtime {
  readonly gpu: Gpu;
  readonly model: Model;
  readonly sampler: Sampler;
  readonly stepper: Stepper;
  readonly cache: KvCache;
  /** Index of the plan's stage that computes. */
  stage: number;
  /** Rows of the embedding that are there. */
  embeddingRows: RowSet;
}
