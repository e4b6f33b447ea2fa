// What a page hears that gets no WebGPU device: before anything is fetched, and with what to do.
import { describe, expect, test } from "vitest";
import { Gpu } from "../../../src/gpu/device";
import { type LoadOptions, loadEngine } from "../../../src/index";
import { expectLlmError } from "../../support/expect-llm-error";

/** Loading with a fetch that fails the test when it is used. */
function load(options: LoadOptions) {
  let fetchCount = 0;
  const fetch = async () => {
    fetchCount++;
    return new Response();
  };
  return loadEngine("owner/name", { ...options, fetch }).finally(() => expect(fetchCount).toBe(0));
}

function adapter(requestDevice: () => Promise<GPUDevice>): GPUAdapter {
  return { features: new Set(), limits: {}, info: { vendor: "test" }, requestDevice } as unknown as GPUAdapter;
}

function webGpu(requestAdapter: () => Promise<GPUAdapter | null>): GPU {
  return { requestAdapter } as unknown as GPU;
}

test("a browser without WebGPU is told which have it", async () => {
  await expectLlmError(load({}), "no-webgpu", "Use Chrome or Edge 113 or later", "https or localhost");
});

describe("WebGPU", () => {
  test("without an adapter says what to turn on", async () => {
    await expectLlmError(load({ gpu: webGpu(async () => null) }), "no-adapter", "hardware acceleration", "update the graphics driver");
  });

  test("is asked again while its adapter starts", async () => {
    let askedCount = 0;
    const refuse = adapter(() => Promise.reject(new Error("asked at last")));
    const gpu = webGpu(async () => (++askedCount < 3 ? null : refuse));
    await expectLlmError(Gpu.request({ gpu }), "no-adapter", "asked at last");
    expect(askedCount).toBe(3);
  });

  test("whose adapter gives no device says why", async () => {
    const gpu = webGpu(async () => adapter(() => Promise.reject(new DOMException("the driver is broken", "OperationError"))));
    await expectLlmError(load({ gpu }), "no-adapter", "gave no device", "the driver is broken", "Restart the browser");
  });
});
