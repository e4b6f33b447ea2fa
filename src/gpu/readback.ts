// Bytes from the GPU to JavaScript: a copy into a staging buffer and an asynchronous mapping. Never used inside the decode loop's steps.
import type { GpuTensor } from "./buffer";
import type { Gpu } from "./device";
import { BUFFER_USAGE, MAP_MODE } from "./webgpu-flags";

/** The bytes of a tensor, after all work submitted so far. */
export async function readback(gpu: Gpu, tensor: GpuTensor): Promise<ArrayBuffer> {
  const staging = gpu.createBuffer("readback", tensor.bytes, "scratch", BUFFER_USAGE.COPY_DST | BUFFER_USAGE.MAP_READ);
  try {
    const encoder = gpu.device.createCommandEncoder();
    encoder.copyBufferToBuffer(tensor.buffer, tensor.offset, staging.raw, 0, tensor.bytes);
    gpu.device.queue.submit([encoder.finish()]);
    await gpu.mapped(staging.raw, MAP_MODE.READ, 0, tensor.bytes);
    return staging.raw.getMappedRange(0, tensor.bytes).slice(0);
  } finally {
    staging.destroy();
  }
}
