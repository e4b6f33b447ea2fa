// WebGPU as it is here, for a soak: every device that it gives is watched, and can be lost.
import { replaceMethod } from "../support/device-faults";

interface WatchedDevice {
  readonly device: GPUDevice;
  readonly liveBuffers: Set<GPUBuffer>;
}

export class SoakGpu {
  readonly #devices = new Set<WatchedDevice>();
  readonly #errors: string[] = [];
  #losses = 0;

  /** For `LoadOptions.gpu`. */
  readonly gpu = {
    requestAdapter: async (options?: GPURequestAdapterOptions) => {
      const adapter = await navigator.gpu.requestAdapter(options);
      if (!adapter) return null;
      replaceMethod(adapter, "requestDevice", (request: GPUAdapter["requestDevice"]) => async (descriptor) => {
        const device = await request(descriptor);
        this.#watch(device);
        return device;
      });
      return adapter;
    },
  } as GPU;

  /** Devices lost so far. */
  get losses(): number {
    return this.#losses;
  }

  /** Devices that are there now. */
  get deviceCount(): number {
    return this.#devices.size;
  }

  /** What a driver's reset does: every device is gone, and a new one can be had. */
  loseDevices(): void {
    this.#losses++;
    for (const { device } of this.#devices) device.destroy();
    this.#devices.clear();
  }

  /** GPU errors that no error scope caught since the last call, of work submitted until now. */
  async takeErrors(): Promise<string[]> {
    await Promise.all([...this.#devices].map(({ device }) => device.queue.onSubmittedWorkDone().catch(() => undefined)));
    return this.#errors.splice(0);
  }

  /** Labels of the buffers of devices that are not lost, whatever our own counting says. */
  liveBuffers(): string[] {
    return [...this.#devices].flatMap(({ liveBuffers }) => [...liveBuffers].map(({ label }) => label));
  }

  #watch(device: GPUDevice): void {
    const liveBuffers = new Set<GPUBuffer>();
    const watched = { device, liveBuffers };
    this.#devices.add(watched);
    replaceMethod(device, "createBuffer", (create: GPUDevice["createBuffer"]) => (descriptor) => {
      const buffer = create(descriptor);
      liveBuffers.add(buffer);
      replaceMethod(buffer, "destroy", (destroy) => () => {
        liveBuffers.delete(buffer);
        return destroy();
      });
      return buffer;
    });
    device.addEventListener("uncapturederror", ({ error }) => this.#errors.push(error.message));
    void device.lost.then(() => this.#devices.delete(watched));
  }
}
