// Runs one kernel on real tensors at many sizes: kernelTest makes a test of each combination of parameters.
import { expect, type TestContext, test } from "vitest";
import { BINDING_ALIGNMENT, type TrackedBuffer } from "../../src/gpu/buffer";
import type { Gpu } from "../../src/gpu/device";
import { KernelCache, type KernelDefinition } from "../../src/gpu/kernel";
import { readback } from "../../src/gpu/readback";
import { type Random, seededRandom } from "./random";
import { getTestGpu } from "./test-gpu";
import { enabledFeatures, missingFeature, variantCode } from "./variant-features";

export type TestTensor = Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer> | Int32Array<ArrayBuffer> | Uint8Array<ArrayBuffer>;

/**
 * Uploads `tensors` and the first contents of `outputs`, dispatches once, and gives the outputs' new contents. A tensor that the kernel
 * changes in place stands among the outputs. Fails if the kernel writes past an output's end; skips where the adapter lacks a feature
 * that the variant enables.
 */
export type RunKernel<Binding extends string, Options, Shape> = <Output extends Partial<Record<Binding, TestTensor>>>(
  options: Options,
  shape: Shape,
  tensors: Partial<Record<Binding, TestTensor>>,
  outputs: Output,
) => Promise<Output>;

type Grid = Readonly<Record<string, readonly unknown[]>>;
type GridPoint<G extends Grid> = { readonly [Name in keyof G]: G[Name][number] };

interface KernelTestContext<Binding extends string, Options, Shape> {
  readonly run: RunKernel<Binding, Options, Shape>;
  readonly random: Random;
  readonly gpu: Gpu;
}

/**
 * One test for each combination of the grid's values, named after them; `random` is seeded by the name.
 *
 *     kernelTest(rmsNorm, { reduce: ["tree", "subgroup"], tokenCount: [1, 7], hiddenSize: [100, 2048] }, async ({ run, random, ...grid }) => { … });
 */
export function kernelTest<Binding extends string, Options, Shape, const G extends Grid>(
  definition: KernelDefinition<Binding, Options, Shape>,
  grid: G,
  body: (context: KernelTestContext<Binding, Options, Shape> & GridPoint<G>) => Promise<void>,
): void {
  for (const point of product(grid)) {
    const name = `${definition.name} ${describePoint(point)}`;
    test(name, async (context) => {
      const gpu = await getTestGpu();
      const run: RunKernel<Binding, Options, Shape> = (options, shape, tensors, outputs) => {
        enterVariant(context, gpu, definition, options);
        return runKernel(gpu, definition, options, shape, tensors, outputs);
      };
      await body({ run, random: seededRandom(name), gpu, ...point } as KernelTestContext<Binding, Options, Shape> & GridPoint<G>);
      expect(gpu.memory().bufferCount, "buffers left after the test").toBe(0);
    });
  }
}

/** Values that no kernel leaves behind by chance: an output element that is never written stays NaN. */
export function unwritten(length: number): Float32Array<ArrayBuffer> {
  return new Float32Array(length).fill(Number.NaN);
}

/** Names the variant for the report, and skips the test when the adapter lacks what its WGSL enables. */
function enterVariant<Binding extends string, Options, Shape>(
  context: TestContext,
  gpu: Gpu,
  definition: KernelDefinition<Binding, Options, Shape>,
  options: Options,
): void {
  const words = Object.values(definition.variant(options).defines).filter((value) => typeof value === "string");
  const features = enabledFeatures(variantCode(definition, options));
  // "+f16" is arithmetic; a plain "f16" is some tensor's format.
  const subject = [definition.name, ...new Set(words), ...features.map((feature) => `+${feature}`)].join(" ");
  context.task.meta.subject = subject;
  const missing = missingFeature(gpu, features);
  if (missing) context.skip(`${subject}: ${missing}`);
}

const GUARD = 0x7fc0dead; // a NaN of our own, so that a read past the end shows too

/** `kernelTest`'s `run` for any kernel, on a device of the caller's. */
export async function runKernel<Binding extends string, Options, Shape, Output extends Partial<Record<Binding, TestTensor>>>(
  gpu: Gpu,
  definition: KernelDefinition<Binding, Options, Shape>,
  options: Options,
  shape: Shape,
  tensors: Partial<Record<Binding, TestTensor>>,
  outputs: Output,
): Promise<Output> {
  const kernel = await KernelCache.of(gpu).compile(definition, options);
  const buffers = new Map<string, TrackedBuffer>();
  try {
    for (const [name, tensor] of entries(tensors)) buffers.set(name, upload(gpu, name, tensor, 0));
    for (const [name, tensor] of entries(outputs)) buffers.set(name, upload(gpu, name, tensor, BINDING_ALIGNMENT));
    const views = Object.fromEntries([...buffers].map(([name, buffer]) => [name, buffer.view()]));
    const encoder = gpu.device.createCommandEncoder({ label: definition.name });
    const pass = encoder.beginComputePass();
    kernel.bind(views as Parameters<typeof kernel.bind>[0]).encode(pass, shape);
    pass.end();
    gpu.device.queue.submit([encoder.finish()]);
    const results: Record<string, TestTensor> = {};
    for (const [name, tensor] of entries(outputs)) {
      const buffer = buffers.get(name);
      if (buffer) results[name] = checkGuard(name, tensor, await readback(gpu, buffer.view()));
    }
    return results as Output;
  } finally {
    for (const buffer of buffers.values()) buffer.destroy();
  }
}

/** A buffer of the tensor's own size with `guardBytes` more behind it, which the kernel must not touch. */
function upload(gpu: Gpu, name: string, tensor: TestTensor, guardBytes: number): TrackedBuffer {
  const bytes = Math.ceil(tensor.byteLength / 4) * 4;
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
  const buffer = gpu.createBuffer(name, bytes + guardBytes, "scratch", usage);
  const contents = new Uint32Array(buffer.bytes / 4).fill(guardBytes > 0 ? GUARD : 0);
  new Uint8Array(contents.buffer).set(new Uint8Array(tensor.buffer, tensor.byteOffset, tensor.byteLength));
  gpu.device.queue.writeBuffer(buffer.raw, 0, contents);
  return buffer;
}

function checkGuard(name: string, tensor: TestTensor, contents: ArrayBuffer): TestTensor {
  const guard = new Uint32Array(contents, Math.ceil(tensor.byteLength / 4) * 4);
  const touched = guard.findIndex((word) => word !== GUARD);
  if (touched >= 0) expect.fail(`the kernel wrote past the end of ${name}: byte ${guard.byteOffset + touched * 4} of ${tensor.byteLength}`);
  const Type = tensor.constructor as new (buffer: ArrayBuffer, offset: number, length: number) => TestTensor;
  return new Type(contents, 0, tensor.length);
}

function entries(tensors: Partial<Record<string, TestTensor>>): [string, TestTensor][] {
  return Object.entries(tensors).filter((entry): entry is [string, TestTensor] => entry[1] !== undefined);
}

function product(grid: Grid): Record<string, unknown>[] {
  return Object.entries(grid).reduce<Record<string, unknown>[]>(
    (points, [name, values]) => points.flatMap((point) => values.map((value) => ({ ...point, [name]: value }))),
    [{}],
  );
}

function describePoint(point: Record<string, unknown>): string {
  return Object.entries(point)
    .map(([name, value]) => `${name} ${typeof value === "object" ? JSON.stringify(value).replaceAll('"', "") : value}`)
    .join(", ");
}
