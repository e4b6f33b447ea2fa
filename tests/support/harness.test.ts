// The GPU harness itself: a right kernel passes, and each way of being wrong fails.
import { describe, expect, test } from "vitest";
import { defineKernel } from "../../src/gpu/kernel";
import { expectClose, expectNmse, expectSame } from "./expect-close";
import { halfBits, halfValue, packHalves, unpackHalves } from "./half";
import { kernelTest, unwritten } from "./kernel-test";
import { hasTestFile, openTestFile, readTestFile, readTestJson } from "./test-files";
import { getTestGpu } from "./test-gpu";

/** y = 2x, or wrong in a chosen way. */
const double = defineKernel({
  name: "double",
  wgsl: `
#if FAULT == f16
enable f16;
#endif
override length: u32;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  let i = id.x;
#if FAULT == overrun
  if (i > length) { return; }
#else
  if (i >= length) { return; }
#endif
#if FAULT == scale
  y[i] = 2.002 * x[i];
#elif FAULT == index
  y[i] = 2.0 * x[i ^ u32(i == 40u)];
#elif FAULT == gap
  if (i != 5u) { y[i] = 2.0 * x[i]; }
#else
  y[i] = 2.0 * x[i];
#endif
}`,
  bindings: ["x", "y"],
  variant: ({ fault, length }: { fault: string; length: number }) => ({ defines: { FAULT: fault }, constants: { length } }),
  workgroups: ({ length }) => [Math.ceil(length / 64), 1, 1],
});

kernelTest(double, { length: [1, 63, 100] }, async ({ run, random, length }) => {
  const x = random.withOutliers([length]);
  const { y } = await run({ fault: "none", length }, undefined, { x }, { y: unwritten(length) });
  expectClose(
    y,
    x.map((value) => 2 * value),
    { atol: 0, rtol: 1e-6 },
  );
});

kernelTest(double, { fault: ["scale", "index", "gap", "overrun"] }, async ({ run, random, fault }) => {
  const x = random.normal([63]);
  const check = async () => {
    const { y } = await run({ fault, length: 63 }, undefined, { x }, { y: unwritten(63) });
    expectClose(
      y,
      x.map((value) => 2 * value),
      { atol: 1e-5, rtol: 1e-4 },
    );
  };
  await expect(check()).rejects.toThrow(fault === "overrun" ? /past the end of y/ : /of 63 values differ/);
});

kernelTest(double, { fault: ["f16"] }, async ({ run, random, gpu, fault }) => {
  const x = random.normal([64]);
  await run({ fault, length: 64 }, undefined, { x }, { y: unwritten(64) });
  expect(gpu.features.f16, "a variant that enables f16 ran without shader-f16").toBe(true);
});

test.fails("an error that no scope caught fails the test it came from", async () => {
  const gpu = await getTestGpu();
  gpu.device.createBuffer({ size: 4, usage: 0 });
});

describe("comparisons", () => {
  test("expectClose names the worst index, both values and the tolerance", () => {
    expect(() => expectClose([1, 2, 3.5], [1, 2.0001, 3], { atol: 1e-3, rtol: 0 })).toThrow(
      /1 of 3 .* index 2: actual 3.5, expected 3, 500 times/,
    );
  });
  test("a NaN is never close", () => {
    expect(() => expectClose([Number.NaN], [0], { atol: 1, rtol: 1 })).toThrow("index 0");
    expect(() => expectNmse([Number.NaN, 1], [1, 1], 1)).toThrow("index 0");
  });
  test("one wrong value among many fails the mean square", () => {
    const expected = new Float32Array(1000).fill(1);
    expectNmse(expected.with(7, 1 + 1e-5), expected, 1e-12);
    expect(() => expectNmse(expected.with(7, 1.01), expected, 1e-8)).toThrow("index 7");
  });
  test("expectSame tells lengths and indices apart", () => {
    expect(() => expectSame([1, 2], [1, 2, 3])).toThrow("2 values, expected 3");
    expect(() => expectSame([1, 2, 4], [1, 2, 3])).toThrow("index 2");
  });
});

test("halves round to the nearest, ties to even, and survive the way back", () => {
  expectSame([1, 2049, 2051, 65504, 65520, 2 ** -24, 2 ** -26, -0].map(halfBits), [0x3c00, 0x6800, 0x6802, 0x7bff, 0x7c00, 1, 0, 0x8000]);
  for (let bits = 0; bits < 0x7c00; bits++) if (halfBits(halfValue(bits)) !== bits) expect.fail(`half 0x${bits.toString(16)}`);
  expectSame(unpackHalves(packHalves([1, -2, 0.5])), [1, -2, 0.5, 0]);
});

test("a test file is read whole and by range, and one that is not there is missed", async () => {
  expect(await readTestJson<{ name: string }>("package.json")).toMatchObject({ name: "crescendo-llm" });
  const licence = await openTestFile("LICENSE");
  const whole = await readTestFile("LICENSE");
  expect(whole.length).toBe(licence.size);
  expect(await licence.read({ start: 200, end: 210 })).toEqual(whole.slice(200, 210));
  expect(await hasTestFile("tests/no-such-file")).toBe(false);
  await expect(openTestFile("tests/no-such-file")).rejects.toThrow("no-such-file");
});
