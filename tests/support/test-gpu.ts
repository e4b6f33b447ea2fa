// The device that GPU tests share, and its compiled kernels.
import { Gpu, type GpuOptions } from "../../src/gpu/device";

const gpus = new Map<string, Promise<Gpu>>();

/**
 * One device for each set of options, for all files of a page: compiling dominates the time of a test. It goes with the page. Kernels are
 * held against WebGPU's default limits, so those are the default here: what passes, passes on the smallest device.
 *
 * @throws LlmError "no-webgpu" | "no-adapter": a machine without an adapter fails, it does not skip.
 */
export function getTestGpu(options: Omit<GpuOptions, "gpu"> = { defaultLimits: true }): Promise<Gpu> {
  const key = JSON.stringify(options);
  let gpu = gpus.get(key);
  if (!gpu) {
    gpu = Gpu.request(options);
    gpus.set(key, gpu);
  }
  return gpu;
}
