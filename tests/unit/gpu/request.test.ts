// What a page hears that gets no WebGPU device, and with what to do. What was asked for meanwhile is called off.
import { afterEach, describe, expect, test, vi } from "vitest";
import { Gpu } from "../../../src/gpu/device";
import { type LoadOptions, loadEngine } from "../../../src/index";
import { expectLlmError } from "../../support/expect-llm-error";
import { fakeAdapter, fakeDevice, fakeGpu, fakeOpenGpu } from "../../support/fake-device";

/** Loading over a network that does not answer; at most so many requests are made, and all of them are ended. */
function load(options: LoadOptions, maxRequests: number) {
  const signals: (AbortSignal | null | undefined)[] = [];
  const fetch: LoadOptions["fetch"] = (_, init) => {
    signals.push(init?.signal);
    return new Promise(() => undefined);
  };
  return loadEngine("owner/name", { ...options, fetch }).finally(() => {
    expect(signals.length).toBeLessThanOrEqual(maxRequests);
    expect(signals.every((signal) => signal?.aborted)).toBe(true);
  });
}

function visit(userAgent: string, isSecureContext = true): void {
  vi.stubGlobal("navigator", { userAgent });
  vi.stubGlobal("isSecureContext", isSecureContext);
}

afterEach(() => {
  vi.unstubAllGlobals();
});

// A repository's small files and its header are asked for while the device comes.
const FILES_AT_ONCE = 8;

const CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/110.0.0.0 Safari/537.36";

describe("a page without WebGPU is told, before anything is fetched,", () => {
  test("which browsers have it", async () => {
    visit(CHROME);
    await expectLlmError(load({}, 0), "no-webgpu", "Use Chrome or Edge 123 or later");
  });

  test("that it is not secure", async () => {
    visit(CHROME, false);
    await expectLlmError(load({}, 0), "no-webgpu", "over https or from localhost");
  });

  test("what to pass in Node", async () => {
    await expectLlmError(load({}, 0), "no-webgpu", "In Node pass `gpu`");
  });
});

describe("WebGPU", () => {
  test("without an adapter says what to turn on", async () => {
    visit(CHROME);
    await expectLlmError(
      load({ gpu: fakeGpu(async () => null) }, FILES_AT_ONCE),
      "no-adapter",
      "hardware acceleration",
      "update the graphics driver",
    );
  });

  test("is asked again while its adapter starts", async () => {
    let askedCount = 0;
    const adapter = fakeAdapter(async () => fakeDevice().device);
    const gpu = await Gpu.request({ gpu: fakeGpu(async () => (++askedCount < 3 ? null : adapter)) });
    expect([askedCount, gpu.adapterName]).toEqual([3, "test"]);
  });

  test("whose adapter gives no device says why", async () => {
    const gpu = fakeGpu(async () => fakeAdapter(() => Promise.reject(new DOMException("the driver is broken", "OperationError"))));
    await expectLlmError(load({ gpu }, FILES_AT_ONCE), "no-adapter", "gave no device", "the driver is broken", "Restart the browser");
  });

  // In 1 of 73 fresh browsers: the GPU process was still starting, or had just started again.
  test.each<[string, () => Promise<GPUDevice>]>([
    ["gives no device", () => Promise.reject(new DOMException("still starting", "OperationError"))],
    [
      "gives a device that is lost already",
      async () => {
        const fake = fakeDevice();
        fake.lose("the GPU process has ended");
        return fake.device;
      },
    ],
  ])("whose first adapter %s is asked for another adapter, and that for a device", async (_, first) => {
    const asked: string[] = [];
    const gpu = fakeGpu(async () => {
      const isFirst = asked.length === 0;
      asked.push(isFirst ? "first" : "second");
      return fakeAdapter(isFirst ? first : async () => fakeDevice().device);
    });
    await Gpu.request({ gpu });
    expect(asked).toEqual(["first", "second"]);
  });

  test("that loses each device at once says so in the end", async () => {
    const gpu = fakeGpu(async () => {
      return fakeAdapter(async () => {
        const fake = fakeDevice();
        fake.lose("no memory");
        return fake.device;
      });
    });
    await expectLlmError(Gpu.request({ gpu }), "no-adapter", "lost at once", "no memory");
  });
});

// `adapter.info` came with Chrome 127; before, `loadEngine` ended in a TypeError.
describe("an adapter without info", () => {
  const request = (others: object) => Gpu.request({ gpu: fakeGpu(async () => fakeAdapter(async () => fakeDevice().device, others)) });

  test("is used, without a name", async () => {
    const { adapterName, features } = await request({});
    expect([adapterName, features.software, features.subgroups]).toEqual(["unknown adapter", false, null]);
  });

  test("is asked for it as older browsers have it", async () => {
    const old = { isFallbackAdapter: true, requestAdapterInfo: async () => ({ vendor: "google", architecture: "swiftshader" }) };
    const { adapterName, features } = await request(old);
    expect([adapterName, features.software]).toEqual(["google swiftshader", true]);
  });

  test("may have subgroups, of any size", async () => {
    const { features } = await request({ features: new Set(["subgroups", "shader-f16"]) });
    expect(features).toMatchObject({ f16: true, subgroups: { min: 4, max: 128 }, subgroupMatrix: false });
  });
});

test("the error of a lost device names the adapter", async () => {
  const fake = fakeDevice();
  const gpu = await fakeOpenGpu(fake);
  expect(await gpu.lossError()).toBeNull();
  fake.lose("driver reset.");
  await gpu.lost;
  const message = "The graphics device (test) was lost (unknown): driver reset. Load the engine again.";
  expect(await gpu.lossError()).toMatchObject({ code: "device-lost", message });
});

test.each<[string, () => Promise<undefined>]>([
  ["never end", () => new Promise(() => undefined)],
  ["fail", () => Promise.reject(new Error("device lost"))],
])("a device is known to be lost where waits for its work %s", async (_, workDone) => {
  const fake = fakeDevice();
  const gpu = await fakeOpenGpu(fake);
  fake.device.queue.onSubmittedWorkDone = workDone;
  fake.lose("driver reset");
  expect(await gpu.lossError()).toMatchObject({ code: "device-lost" });
});

test("what no error scope caught is told to listeners until they end, and not after dispose", async () => {
  const fake = fakeDevice();
  const gpu = await fakeOpenGpu(fake);
  const heard: string[] = [];
  const end = gpu.onError(({ message }) => heard.push(`first ${message}`));
  gpu.onError(({ message }) => heard.push(`second ${message}`));
  fake.fail("a");
  end();
  fake.fail("b");
  gpu.dispose();
  fake.fail("c");
  expect(heard).toEqual(["first a", "second a", "second b"]);
});
