// The logits are the reference's on devices that offer less, or more, than the one that the other tests ask for.
import { afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { type Engine, type EngineEvent, type LoadOptions, loadEngine } from "../../src/index";
import { pollForWork, replaceMethod } from "../support/device-faults";
import { expectGolden } from "../support/expect-close";
import { expectLlmError } from "../support/expect-llm-error";
import { getTestGpu } from "../support/test-gpu";
import { evaluateAll, type Golden, loadTestEngine, readGolden, testModelFiles } from "../support/test-model";
import { takeUncaughtErrors } from "../support/watched-devices";

const CASE = "tests/golden/llama-gqa";
const OPTIONS: LoadOptions = { needsTokenizer: false, contextLength: 128, chunkRows: 72, kvFormat: "f32" };

let golden: Golden;

beforeAll(async () => {
  golden = await readGolden(CASE);
});

afterEach(() => {
  vi.unstubAllGlobals();
});

/** Prefill and decode kernels both. */
async function expectReference(engine: Engine, name: string, max = 1e-3): Promise<void> {
  for (const [chunk, length] of [
    [72, 72],
    [1, 24],
  ] as const) {
    const { logits } = await evaluateAll(engine, { ids: golden.ids.slice(0, length), chunk });
    expectGolden(`llama-gqa ${name}`, logits, golden.logits.subarray(0, logits.length), max);
  }
  const { ids } = await engine.generateIds(golden.ids, { temperature: 0, maxTokens: golden.greedy.length });
  expect(ids).toEqual(golden.greedy);
}

describe("logits and greedy ids are the reference's", () => {
  test.for<[string, LoadOptions]>([
    ["without subgroups", { without: ["subgroups"], defaultLimits: true }],
    ["without f16 arithmetic", { without: ["f16"] }],
    ["with all that the adapter has", {}],
  ])("%s", async ([name, options], context) => {
    const { f16 } = (await getTestGpu()).features;
    context.skip(!f16 && options.without?.[0] === "f16", "the adapter has no shader-f16 to do without");
    using engine = await loadEngine(testModelFiles(CASE), { ...OPTIONS, ...options });
    // Matrix units take activations as halves.
    const { subgroupMatrix } = (await getTestGpu({})).features;
    await expectReference(engine, name, subgroupMatrix && !options.without ? 2e-2 : 1e-3);
  });

  test("with embedding, head and MLP in several bindings", async () => {
    // 192 rows of 64 halves: the 512 of embedding and head take three bindings, the 352 of gate and up two, and everything else one.
    using engine = await loadTestEngine(CASE, { ...OPTIONS, maxBindingBytes: 24 * 1024 });
    expect(engine.memory().bufferCount).toBe((await bufferCountWhole()) + 2 + 2 + engine.config.layerCount);
    await expectReference(engine, "in several bindings");
  });
});

async function bufferCountWhole(): Promise<number> {
  using engine = await loadTestEngine(CASE, OPTIONS);
  return engine.memory().bufferCount;
}

test("a context whose K or V outgrows a binding is refused with the length that fits", async () => {
  // A position of K: 2 heads of 16 floats.
  const loading = loadTestEngine(CASE, { ...OPTIONS, contextLength: 512, maxBindingBytes: 24 * 1024 });
  await expectLlmError(loading, "out-of-memory", "512", "contextLength to 192");
});

// In Node an application gives `GpuOptions.gpu` and need not make WebGPU's constants global: "GPUBufferUsage is not defined" was all it got.
test("the logits are the reference's where WebGPU's flags are no globals", async () => {
  const { gpu } = navigator;
  for (const name of ["GPUBufferUsage", "GPUMapMode", "GPUShaderStage"]) vi.stubGlobal(name, undefined);
  using engine = await loadEngine(testModelFiles(CASE), { ...OPTIONS, gpu, without: ["subgroups"], defaultLimits: true });
  await expectReference(engine, "without subgroups");
});

/** WebGPU as it is here; `onDevice` gets each device before its user does. */
function watchedGpu(onDevice: (device: GPUDevice) => void): GPU {
  const requestAdapter = async (options?: GPURequestAdapterOptions) => {
    const adapter = await navigator.gpu.requestAdapter(options);
    if (!adapter) return null;
    replaceMethod(adapter, "requestDevice", (request: GPUAdapter["requestDevice"]) => async (descriptor) => {
      const device = await request(descriptor);
      onDevice(device);
      return device;
    });
    return adapter;
  };
  return { requestAdapter } as GPU;
}

// As Firefox does: https://bugzilla.mozilla.org/show_bug.cgi?id=1870699
test("the logits are the reference's on a device that tells of finished work every 100 ms, or when something is submitted", async () => {
  const polling: ReturnType<typeof pollForWork>[] = [];
  const gpu = watchedGpu((device) => polling.push(pollForWork(device)));
  try {
    using engine = await loadEngine(testModelFiles(CASE), { ...OPTIONS, gpu, without: ["subgroups"], defaultLimits: true });
    await expectReference(engine, "without subgroups");
    expect(polling.map(({ emptySubmits }) => emptySubmits() > 0)).toEqual([true]);
  } finally {
    for (const { stop } of polling) stop();
  }
});

test("what the device refuses and nobody waited for is an event", async () => {
  const devices: GPUDevice[] = [];
  const events: EngineEvent[] = [];
  using _engine = await loadEngine(testModelFiles(CASE), {
    ...OPTIONS,
    gpu: watchedGpu((device) => devices.push(device)),
    onEvent: (event) => events.push(event),
  });
  devices[0]?.createBuffer({ label: "mapped and bound", size: 16, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.STORAGE });
  expect(await takeUncaughtErrors()).toHaveLength(1);
  const errors = events.filter(({ type }) => type === "gpu-error");
  expect(errors).toEqual([{ type: "gpu-error", message: expect.stringContaining("mapped and bound") }]);
});
