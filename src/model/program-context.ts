// What every kernel of a model needs to be compiled and bound.
import type { Gpu } from "../gpu/device";
import type { KernelCache } from "../gpu/kernel";
import type { GemvProduct } from "../kernels/gemv-candidates";
import type { GemvTuning } from "../kernels/matmul-vector";
import type { KvLayout } from "../kv/kv-cache";
import type { ModelConfig } from "../weights/model-config";
import type { Lane } from "./lane";
import type { Scratch } from "./scratch";

export interface ProgramContext {
  readonly gpu: Gpu;
  readonly kernels: KernelCache;
  readonly config: ModelConfig;
  readonly scratch: Scratch;
  /** The lane of prefill and decode. */
  readonly lane: Lane;
  readonly kvLayout: KvLayout;
  /** Subgroup reductions in kernels; off where the device has none or they give wrong results. */
  readonly subgroups: boolean;
  /** Prefill's products on the device's matrix units. */
  readonly subgroupMatrix: boolean;
  /** Prefill's products in the layers on bytes of x, where weights are bytes or less. Not beside `subgroupMatrix`. */
  readonly dp4a: boolean;
  /** The cut of a decode product: the same for as long as the context lives. */
  readonly gemvTuning: (product: GemvProduct) => GemvTuning;
}
