// Every declared variant of every kernel compiles within WebGPU's default limits, f16 too: Dawn's null backend has every feature and
// validates like any other, but makes no machine code, so that hundreds of variants take seconds.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { create, globals } from "webgpu";
import { Gpu } from "../../../src/gpu/device";
import { KernelCache, type KernelDefinition } from "../../../src/gpu/kernel";
import { variantCode } from "../../support/variant-features";

type AnyKernel = KernelDefinition<string, unknown, unknown>;

Object.assign(globalThis, globals);
const dawn = create(["backend=null"]);
let gpu: Gpu;
beforeAll(async () => {
  gpu = await Gpu.request({ gpu: dawn, defaultLimits: true });
});
afterAll(() => gpu.dispose());

const modules = import.meta.glob<Record<string, unknown>>("../../../src/kernels/*.ts", { eager: true });
const kernels = Object.values(modules).flatMap((module) =>
  Object.entries(module).flatMap(([name, value]) =>
    isKernel(value) ? [{ name, kernel: value, variants: module[`${name}Variants`] }] : [],
  ),
);

test("the device has every feature that a variant may enable", () => {
  expect(gpu.features).toMatchObject({ f16: true, subgroups: expect.anything() });
});

describe.each(kernels)("$kernel.name", ({ name, kernel, variants }) => {
  const list: unknown[] = Array.isArray(variants) ? variants : [];

  test("declares its variants beside its definition", () => {
    expect(list.length, `entries of ${name}Variants`).toBeGreaterThan(0);
  });
  test("compiles in every variant", async () => {
    const cache = new KernelCache(gpu);
    await Promise.all(list.map((options) => cache.compile(kernel, options)));
  });
  test("binds what its WGSL declares, and nothing else", () => {
    const declared = list.flatMap((options) => [...variantCode(kernel, options).matchAll(/@binding\(\d+\)\s*var<[^>]*>\s*(\w+)/g)]);
    expect([...kernel.bindings].sort()).toEqual([...new Set(declared.map(([, binding]) => binding))].sort());
  });
});

function isKernel(value: unknown): value is AnyKernel {
  return typeof value === "object" && value !== null && "wgsl" in value && "workgroups" in value;
}
