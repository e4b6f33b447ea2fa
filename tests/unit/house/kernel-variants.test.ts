// Every declared variant of every kernel compiles within WebGPU's default limits, f16 too: Dawn's null backend has every feature and
// validates like any other, but makes no machine code, so that hundreds of variants take seconds. It has no sizes of matrix units, and less
// workgroup memory than they need: kernels on those are checked as far as their WGSL goes.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { create, globals } from "webgpu";
import { Gpu } from "../../../src/gpu/device";
import { KernelCache } from "../../../src/gpu/kernel";
import { enabledFeatures, variantCode } from "../../support/variant-features";
import { exportedKernels } from "./exported-kernels";

Object.assign(globalThis, globals);
const dawn = create(["backend=null"]);
let gpu: Gpu;
beforeAll(async () => {
  gpu = await Gpu.request({ gpu: dawn, defaultLimits: true });
});
afterAll(() => gpu.dispose());

const COMPILING_MS = 60_000; // of some hundred variants, on a busy machine
const SUBGROUP_MATRIX = "chromium-experimental-subgroup-matrix" as GPUFeatureName;
const unsafeDawn = create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]);

async function checkModules(codes: readonly string[]): Promise<void> {
  const adapter = await unsafeDawn.requestAdapter();
  const device = await adapter?.requestDevice({ requiredFeatures: ["shader-f16", "subgroups", SUBGROUP_MATRIX] });
  const infos = await Promise.all(codes.map((code) => device?.createShaderModule({ code }).getCompilationInfo()));
  expect(infos.flatMap((info) => info?.messages.map(({ lineNum, message }) => `${lineNum}: ${message}`))).toEqual([]);
  expect(infos).not.toContain(undefined);
  device?.destroy();
}

test("the device has every feature that a variant may enable", () => {
  expect(gpu.features).toMatchObject({ f16: true, subgroups: expect.anything() });
});

describe.each(exportedKernels)("$kernel.name", ({ name, kernel, variants }) => {
  test("declares its variants beside its definition", () => {
    expect(variants.length, `entries of ${name}Variants`).toBeGreaterThan(0);
  });
  const codes = variants.map((options) => variantCode(kernel, options));
  const isOnMatrixUnits = codes.some((code) => enabledFeatures(code).includes("chromium_experimental_subgroup_matrix"));
  if (isOnMatrixUnits) {
    test("is valid WGSL in every variant", () => checkModules(codes));
  } else {
    test("compiles in every variant", { timeout: COMPILING_MS }, async () => {
      const cache = new KernelCache(gpu);
      await Promise.all(variants.map((options) => cache.compile(kernel, options)));
    });
  }
  test("binds what its WGSL declares, and nothing else", () => {
    const declared = codes.flatMap((code) => [...code.matchAll(/@binding\(\d+\)\s*var<[^>]*>\s*(\w+)/g)]);
    expect([...kernel.bindings].sort()).toEqual([...new Set(declared.map(([, binding]) => binding))].sort());
  });
});
