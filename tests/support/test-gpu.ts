// The device that the GPU tests of a file share.
import { afterAll } from "vitest";
import { Gpu, type GpuOptions } from "../../src/gpu/device";

const gpus = new Map<string, Promise<Gpu>>();

/**
 * One device for each set of options and test file, disposed of after the file. Kernels are held against WebGPU's default limits,
 * so those are the default here: what passes, passes on the smallest device.
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

afterAll(async () => {
  for (const gpu of gpus.values()) (await gpu.catch(() => null))?.dispose();
  gpus.clear();
});
