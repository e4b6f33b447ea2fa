// A GPU device of which nothing computes: for what the CPU makes of a device's answers, in Node and without an adapter.

export interface FakeDevice {
  readonly device: GPUDevice;
  /** What a browser tells of a lost device. */
  lose(message: string): void;
  /** What a browser tells of an error that no scope caught. */
  fail(message: string): void;
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
    createBuffer: ({ size }: GPUBufferDescriptor) => ({ size, mapAsync: work, destroy: () => undefined }),
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
