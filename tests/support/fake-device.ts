// A GPU device that computes nothing, and copies: for what the CPU makes of a device's answers, in Node and without an adapter.
import { Gpu } from "../../src/gpu/device";

export interface FakeDevice {
  readonly device: GPUDevice;
  /** What a browser tells of a lost device. */
  lose(message: string): void;
  /** What a browser tells of an error that no scope caught. */
  fail(message: string): void;
}

/** A buffer whose bytes a test can look at. */
export class FakeBuffer {
  readonly size: number;
  readonly label: string;
  readonly bytes: Uint8Array;
  readonly #work: () => Promise<void>;
  mapState: GPUBufferMapState = "unmapped";
  isDestroyed = false;

  constructor(size: number, label: string, work: () => Promise<void>) {
    this.size = size;
    this.label = label;
    this.bytes = new Uint8Array(size);
    this.#work = work;
  }

  async mapAsync(): Promise<void> {
    this.mapState = "pending";
    await this.#work();
    this.mapState = "mapped";
  }

  getMappedRange(): ArrayBufferLike {
    return this.bytes.buffer;
  }

  unmap(): void {
    this.mapState = "unmapped";
  }

  destroy(): void {
    this.isDestroyed = true;
  }
}

/** At once. Within one buffer it is refused, as Firefox and Deno do. */
function copyBufferToBuffer(from: FakeBuffer, fromOffset: number, to: FakeBuffer, toOffset: number, size: number): void {
  if (from === to) throw new Error("Source and destination cannot be the same buffer");
  to.bytes.set(from.bytes.subarray(fromOffset, fromOffset + size), toOffset);
}

/** How long `onSubmittedWorkDone` and `mapAsync` take, unless `workMs` says otherwise: nothing. */
export function fakeDevice({ workMs = 0 } = {}): FakeDevice {
  const listeners = new Set<(event: unknown) => void>();
  let lose: (info: GPUDeviceLostInfo) => void = () => undefined;
  const work = () => (workMs === 0 ? Promise.resolve() : new Promise<void>((resolve) => setTimeout(resolve, workMs)));
  const device = {
    lost: new Promise((resolve) => {
      lose = resolve;
    }),
    limits: { maxBufferSize: 2 ** 28, maxStorageBufferBindingSize: 2 ** 27 },
    features: new Set(),
    queue: { submit: () => undefined, onSubmittedWorkDone: work, writeBuffer: () => undefined },
    createBuffer: ({ size, label }: GPUBufferDescriptor) => new FakeBuffer(size, label ?? "", work),
    createCommandEncoder: () => ({ copyBufferToBuffer, finish: () => undefined }),
    addEventListener: (_: string, listener: (event: unknown) => void) => listeners.add(listener),
    removeEventListener: (_: string, listener: (event: unknown) => void) => listeners.delete(listener),
    destroy: () => undefined,
  } as unknown as GPUDevice;
  return {
    device,
    lose: (message) => lose({ reason: "unknown", message } as GPUDeviceLostInfo),
    fail: (message) => {
      for (const listener of listeners) listener({ error: { message } });
    },
  };
}

/** An adapter that gives what `requestDevice` gives. Without `info`, as in Chrome before 127, it has none. */
export function fakeAdapter(requestDevice: () => Promise<GPUDevice>, others: object = { info: { vendor: "test" } }): GPUAdapter {
  return { features: new Set(), limits: {}, requestDevice, ...others } as unknown as GPUAdapter;
}

export function fakeGpu(requestAdapter: () => Promise<GPUAdapter | null>): GPU {
  return { requestAdapter } as unknown as GPU;
}

/** Ours, on a fake device. */
export function fakeOpenGpu(fake: FakeDevice = fakeDevice()): Promise<Gpu> {
  return Gpu.request({ gpu: fakeGpu(async () => fakeAdapter(async () => fake.device)) });
}
