// What a test does to a real GPU device: counts the buffers that live on it, and makes allocations fail.

type CreateBuffer = GPUDevice["createBuffer"];

/** Buffers of `device` that were made since and are not destroyed: of everyone, whatever our own counting says. Each is told once. */
export function watchBuffers(device: GPUDevice): { readonly takeLabels: () => string[]; readonly stop: () => void } {
  const live = new Set<GPUBuffer>();
  const stop = replaceMethod(device, "createBuffer", (create: CreateBuffer) => (descriptor) => {
    const buffer = create(descriptor);
    live.add(buffer);
    replaceMethod(buffer, "destroy", (destroy) => () => {
      live.delete(buffer);
      return destroy();
    });
    return buffer;
  });
  const takeLabels = () => {
    const labels = [...live].map(({ label }) => label);
    live.clear();
    return labels;
  };
  return { takeLabels, stop };
}

/** Until the returned function is called, buffers with such labels fail as they do where memory is out: the error scope says so. */
export function failAllocations(device: GPUDevice, label: RegExp): () => void {
  const scopes: { readonly filter: GPUErrorFilter; failed: boolean }[] = [];
  const undo = [
    replaceMethod(device, "createBuffer", (create: CreateBuffer) => (descriptor) => {
      const scope = scopes.findLast(({ filter }) => filter === "out-of-memory");
      if (label.test(descriptor.label ?? "") && scope) scope.failed = true;
      return create(descriptor);
    }),
    replaceMethod(device, "pushErrorScope", (push) => (filter) => {
      scopes.push({ filter, failed: false });
      return push(filter);
    }),
    replaceMethod(device, "popErrorScope", (pop) => async () => {
      const scope = scopes.pop();
      const error = await pop();
      return scope?.failed ? new GPUOutOfMemoryError("the test left no memory") : error;
    }),
  ];
  return () => {
    for (const each of undo.reverse()) each();
  };
}

/** Puts another method in front of an object's own; returns the function that takes it away. */
export function replaceMethod<Target extends object, Name extends keyof Target>(
  target: Target,
  name: Name,
  replace: (original: Target[Name]) => Target[Name],
): () => void {
  const own = Object.getOwnPropertyDescriptor(target, name);
  const original = target[name] as (...args: unknown[]) => unknown;
  Object.defineProperty(target, name, { value: replace(original.bind(target) as Target[Name]), configurable: true });
  return () => {
    if (own) Object.defineProperty(target, name, own);
    else delete target[name];
  };
}

/** Until the returned function is called, the device's shaders have something else where `pattern` is: what a driver's compiler gets wrong. */
export function miscompile(device: GPUDevice, pattern: RegExp, replacement: string): () => void {
  return replaceMethod(device, "createShaderModule", (create: GPUDevice["createShaderModule"]) => (descriptor) => {
    return create({ ...descriptor, code: descriptor.code.replaceAll(pattern, replacement) });
  });
}

/** WebGPU as it is here, but for its adapters in software: they pass for hardware. `onDevice` gets each device before its user does. */
export function hardwareGpu(onDevice: (device: GPUDevice) => void = () => undefined): GPU {
  const requestAdapter = async (options?: GPURequestAdapterOptions) => {
    const adapter = await navigator.gpu.requestAdapter(options);
    if (!adapter) return null;
    const { vendor, architecture, description, subgroupMinSize, subgroupMaxSize } = adapter.info;
    const { subgroupMatrixConfigs = [] } = adapter.info as { readonly subgroupMatrixConfigs?: unknown };
    const subgroups = { subgroupMinSize, subgroupMaxSize, subgroupMatrixConfigs };
    const info = { vendor, architecture, description, ...subgroups, isFallbackAdapter: false };
    Object.defineProperty(adapter, "info", { value: info });
    replaceMethod(adapter, "requestDevice", (request: GPUAdapter["requestDevice"]) => async (descriptor) => {
      const device = await request(descriptor);
      onDevice(device);
      return device;
    });
    return adapter;
  };
  return { requestAdapter } as GPU;
}

type Queue = GPUDevice["queue"];
type MapAsync = GPUBuffer["mapAsync"];

/** Until `stop`, the device tells of finished work as Firefox does: at its next look, every `periodMs`, or when something is submitted. */
export function pollForWork(device: GPUDevice, periodMs = 100): {
  readonly emptySubmits: () => number;
  /** From here on it looks only when something is submitted. */
  readonly lookNoMore: () => void;
  readonly stop: () => void;
} {
  const finished: (() => void)[] = [];
  let emptySubmits = 0;
  const look = () => {
    for (const tell of finished.splice(0)) tell();
  };
  const held = <T>(work: Promise<T>): Promise<T> =>
    new Promise((resolve, reject) => {
      work.then(
        (value) => finished.push(() => resolve(value)),
        (error) => finished.push(() => reject(error)),
      );
    });
  const { queue } = device;
  const undo = [
    replaceMethod(queue, "onSubmittedWorkDone", (done: Queue["onSubmittedWorkDone"]) => () => held(done())),
    replaceMethod(queue, "submit", (submit: Queue["submit"]) => (commands) => {
      const list = [...commands];
      if (list.length === 0) emptySubmits++;
      submit(list);
      look();
    }),
    replaceMethod(device, "createBuffer", (create: CreateBuffer) => (descriptor) => {
      const buffer = create(descriptor);
      replaceMethod(
        buffer,
        "mapAsync",
        (map: MapAsync) =>
          (...range) =>
            held(map(...range)),
      );
      return buffer;
    }),
  ];
  const timer = setInterval(look, periodMs);
  const lookNoMore = () => clearInterval(timer);
  const stop = () => {
    lookNoMore();
    for (const each of undo.reverse()) each();
    look();
  };
  return { emptySubmits: () => emptySubmits, lookNoMore, stop };
}
