// What a page hears that gets no WebGPU device, and with what to do. What was asked for meanwhile is called off.
import { describe, expect, test } from "vitest";
import { Gpu } from "../../../src/gpu/device";
import { type LoadOptions, loadEngine } from "../../../src/index";
import { expectLlmError } from "../../support/expect-llm-error";

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

function adapter(requestDevice: () => Promise<GPUDevice>): GPUAdapter {
  return { features: new Set(), limits: {}, info: { vendor: "test" }, requestDevice } as unknown as GPUAdapter;
}

function webGpu(requestAdapter: () => Promise<GPUAdapter | null>): GPU {
  return { requestAdapter } as unknown as GPU;
}

test("a browser without WebGPU is told which have it, before anything is fetched", async () => {
  await expectLlmError(load({}, 0), "no-webgpu", "Use Chrome or Edge 113 or later", "https or localhost");
});

describe("WebGPU", () => {
  test("without an adapter says what to turn on", async () => {
    await expectLlmError(load({ gpu: webGpu(async () => null) }, 1), "no-adapter", "hardware acceleration", "update the graphics driver");
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
    await expectLlmError(load({ gpu }, 1), "no-adapter", "gave no device", "the driver is broken", "Restart the browser");
  });
});
