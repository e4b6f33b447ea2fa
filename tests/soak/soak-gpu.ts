// WebGPU as it is here, for a soak: every device that it gives is watched, and can be lost.
import { replaceMethod } from "../support/device-faults";

interface WatchedDevice {
  readonly device: GPUDevice;
  readonly liveBuffers: Set<GPUBuffer>;
  readonly stop: () => void;
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

  /** Also watches a device that somebody else gave, until the returned function is called. It must not be lost. */
  adopt(device: GPUDevice): () => void {
    const watched = this.#watch(device);
    return () => {
      watched.stop();
      this.#devices.delete(watched);
    };
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

  #watch(device: GPUDevice): WatchedDevice {
    const liveBuffers = new Set<GPUBuffer>();
    const restore = replaceMethod(device, "createBuffer", (create: GPUDevice["createBuffer"]) => (descriptor) => {
      const buffer = create(descriptor);
      liveBuffers.add(buffer);
      replaceMethod(buffer, "destroy", (destroy) => () => {
        liveBuffers.delete(buffer);
        return destroy();
      });
      return buffer;
    });
    const onError = ({ error }: GPUUncapturedErrorEvent) => this.#errors.push(error.message);
    device.addEventListener("uncapturederror", onError);
    const stop = () => {
      restore();
      device.removeEventListener("uncapturederror", onError);
    };
    const watched = { device, liveBuffers, stop };
    this.#devices.add(watched);
    void device.lost.then(() => this.#devices.delete(watched));
    return watched;
  }
}
