// Uploads on a device that tells of finished work every 100 ms go as fast as they would on another.
import { expect, test } from "vitest";
import { Gpu } from "../../../src/gpu/device";
import { BUFFER_USAGE } from "../../../src/gpu/webgpu-flags";
import { pollForWork } from "../../support/device-faults";
import { type FakeBuffer, fakeAdapter, fakeDevice, fakeGpu } from "../../support/fake-device";

// Four staging buffers of 1 MiB, each known to be free at the next look only: 100 MB/s was all that Firefox took.
test("32 MiB wait for none of the device's looks, and every byte is at its place", async () => {
  const fake = fakeDevice();
  const polling = pollForWork(fake.device);
  try {
    const gpu = await Gpu.request({ gpu: fakeGpu(async () => fakeAdapter(async () => fake.device)) });
    expect(gpu.polls).toBe(true);
    const bytes = new Uint8Array(32 * 2 ** 20);
    for (let at = 0; at < bytes.length; at += 4093) bytes[at] = at;
    const target = gpu.createBuffer("target", bytes.length, "weights", BUFFER_USAGE.COPY_DST).raw;
    polling.lookNoMore(); // without empty submits this would never end
    await gpu.uploads.write([{ buffer: target, offset: 0, bytes }]);
    expect(Buffer.compare(Buffer.from((target as unknown as FakeBuffer).bytes), Buffer.from(bytes))).toBe(0);
    gpu.dispose();
  } finally {
    polling.stop();
  }
});
