// What a visitor can report of a shader that the device's compiler refuses.
import { afterEach, beforeEach, test, vi } from "vitest";
import { globals } from "webgpu";
import type { Gpu } from "../../../src/gpu/device";
import { KernelCache } from "../../../src/gpu/kernel";
import { residualLoad } from "../../../src/kernels/residual-load";
import { expectLlmError } from "../../support/expect-llm-error";

beforeEach(() => {
  for (const [name, value] of Object.entries(globals)) vi.stubGlobal(name, value);
  vi.stubGlobal("navigator", { userAgent: "Mozilla/5.0 Safari/26.6" });
});
afterEach(() => vi.unstubAllGlobals());

function refusingGpu(getCompilationInfo: () => Promise<unknown>): Gpu {
  const device = {
    createBindGroupLayout: () => ({}),
    createPipelineLayout: () => ({}),
    createShaderModule: () => ({ getCompilationInfo }),
    createComputePipelineAsync: () => Promise.reject(new Error("no such thing")),
  };
  return { device, adapterName: "acme gpu-9" } as unknown as Gpu;
}

const compile = (gpu: Gpu) => new KernelCache(gpu).compile(residualLoad, { columns: 100, pageSize: 16 });

test("a shader that does not compile is named with its variant, the compiler's words, the adapter and what to do", async () => {
  const gpu = refusingGpu(async () => ({ messages: [{ type: "error", lineNum: 1, linePos: 7, message: "unknown word" }] }));
  const words = [
    "residual-load",
    "PAGE_SIZE",
    "no such thing",
    "error 1:7 unknown word",
    "acme gpu-9",
    "Safari/26.6",
    "Update the browser",
  ];
  await expectLlmError(compile(gpu), "gpu-error", ...words);
});

test("a compiler that has lost its device still leaves an error that names the shader", async () => {
  const gpu = refusingGpu(() => Promise.reject(new Error("device lost")));
  await expectLlmError(compile(gpu), "gpu-error", "residual-load", "no such thing", "acme gpu-9");
});
