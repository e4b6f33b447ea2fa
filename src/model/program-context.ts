// Everything needed to compile and bind a model's kernels.
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
  /** Kernels reduce with subgroup operations. Off if the device has none or they give wrong results. */
  readonly subgroups: boolean;
  /** Prefill's products run on the device's matrix units. */
  readonly subgroupMatrix: boolean;
  /** Prefill's products in the layers take x in bytes if the weights have at most eight bits. Never together with `subgroupMatrix`. */
  readonly dp4a: boolean;
  /** The GEMV parameters of a decode product. They do not change during the context's life. */
  readonly gemvTuning: (product: GemvProduct) => GemvTuning;
}
