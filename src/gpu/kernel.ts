// A WGSL compute kernel: compiled once per variant, bound once per set of tensors, encoded as often as needed.

import { assert } from "../assert";
import { LlmError } from "../errors";
import type { GpuTensor } from "./buffer";
import type { Gpu } from "./device";
import { type Defines, preprocess } from "./preprocess";
import { SHADER_STAGE } from "./webgpu-flags";

const INCLUDES: Readonly<Record<string, string>> = Object.fromEntries(
  Object.entries(import.meta.glob<string>("../../shaders/include/*.wgsl", { query: "?raw", import: "default", eager: true })).map(
    ([path, text]) => [path.slice(path.lastIndexOf("/") + 1), text],
  ),
);

/** What to compile: a shader file with its defines (structure, known to the compiler as text) and override constants (shapes). */
export interface KernelVariant {
  readonly defines: Defines;
  readonly constants?: Readonly<Record<string, number>>;
}

/**
 * A shader and how to use it. `Options` chooses the variant; `Shape` is what changes from one dispatch to the next.
 * The binding names are those of the WGSL file.
 */
export interface KernelDefinition<Binding extends string, Options, Shape> {
  /** The stem that the shader, this definition, its CPU reference and its test share. */
  readonly name: string;
  readonly wgsl: string;
  readonly bindings: readonly Binding[];
  variant(options: Options): KernelVariant;
  /** Workgroups to dispatch. */
  workgroups(options: Options, shape: Shape): Workgroups;
}

export type Workgroups = readonly [x: number, y: number, z: number];

/** Tensors by binding name. Bindings that a variant does not declare may be left out. */
export type Tensors<Binding extends string> = Partial<Record<Binding, GpuTensor>>;

export function defineKernel<Binding extends string, Options, Shape>(
  definition: KernelDefinition<Binding, Options, Shape>,
): KernelDefinition<Binding, Options, Shape> {
  return definition;
}

/** A compiled variant. */
export class Kernel<Binding extends string, Shape> {
  readonly name: string;
  readonly #gpu: Gpu;
  readonly #pipeline: GPUComputePipeline;
  readonly #layout: GPUBindGroupLayout;
  readonly #slots: ReadonlyMap<string, number>;
  readonly #workgroups: (shape: Shape) => Workgroups;

  constructor(gpu: Gpu, name: string, compiled: CompiledPipeline, workgroups: (shape: Shape) => Workgroups) {
    this.#gpu = gpu;
    this.name = name;
    this.#pipeline = compiled.pipeline;
    this.#layout = compiled.layout;
    this.#slots = compiled.slots;
    this.#workgroups = workgroups;
  }

  /** Binds tensors, once; the result is encoded any number of times and creates nothing. */
  bind(tensors: Tensors<Binding>): BoundKernel<Shape> {
    const entries: GPUBindGroupEntry[] = [];
    for (const [name, binding] of this.#slots) {
      const tensor = tensors[name as Binding];
      assert(tensor, `${this.name}: binding ${name} is not given`);
      entries.push({ binding, resource: { buffer: tensor.buffer, offset: tensor.offset, size: tensor.bytes } });
    }
    const group = this.#gpu.device.createBindGroup({ label: this.name, layout: this.#layout, entries });
    return new BoundKernel(this.name, this.#pipeline, group, this.#workgroups);
  }
}

export class BoundKernel<Shape> {
  readonly name: string;
  readonly #pipeline: GPUComputePipeline;
  readonly #group: GPUBindGroup;
  readonly #workgroups: (shape: Shape) => Workgroups;

  constructor(name: string, pipeline: GPUComputePipeline, group: GPUBindGroup, workgroups: (shape: Shape) => Workgroups) {
    this.name = name;
    this.#pipeline = pipeline;
    this.#group = group;
    this.#workgroups = workgroups;
  }

  encode(pass: GPUComputePassEncoder, shape: Shape): void {
    const [x, y, z] = this.#workgroups(shape);
    pass.setPipeline(this.#pipeline);
    pass.setBindGroup(0, this.#group);
    pass.dispatchWorkgroups(x, y, z);
  }
}

interface CompiledPipeline {
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
  readonly slots: ReadonlyMap<string, number>;
}

/** Compiles kernels for one device, each variant once, all of them in parallel. */
export class KernelCache {
  static readonly #caches = new WeakMap<GPUDevice, KernelCache>();
  readonly #gpu: Gpu;
  readonly #compiled = new Map<string, Promise<CompiledPipeline>>();

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  /** The one of the device: engines that share a device share its kernels. */
  static of(gpu: Gpu): KernelCache {
    const cache = KernelCache.#caches.get(gpu.device) ?? new KernelCache(gpu);
    KernelCache.#caches.set(gpu.device, cache);
    return cache;
  }

  get size(): number {
    return this.#compiled.size;
  }

  /** @throws LlmError "gpu-error" with the compiler's messages. */
  async compile<Binding extends string, Options, Shape>(
    definition: KernelDefinition<Binding, Options, Shape>,
    options: Options,
  ): Promise<Kernel<Binding, Shape>> {
    const variant = definition.variant(options);
    const key = `${definition.name} ${JSON.stringify(sorted(variant.defines))} ${JSON.stringify(sorted(variant.constants ?? {}))}`;
    let compiled = this.#compiled.get(key);
    if (!compiled) {
      compiled = compilePipeline(this.#gpu, definition.name, definition.wgsl, variant, key);
      this.#compiled.set(key, compiled);
      compiled.catch(() => this.#compiled.delete(key)); // what failed may do better next time
    }
    return new Kernel(this.#gpu, definition.name, await compiled, (shape) => definition.workgroups(options, shape));
  }
}

const BINDING = /@group\(0\)\s*@binding\((\d+)\)\s*var<\s*(storage|uniform)\s*(?:,\s*(read_write|read)\s*)?>\s*(\w+)/g;

async function compilePipeline(gpu: Gpu, name: string, wgsl: string, variant: KernelVariant, label: string): Promise<CompiledPipeline> {
  const { device } = gpu;
  const code = preprocess(wgsl, variant.defines, INCLUDES);
  const slots = new Map<string, number>();
  const entries: GPUBindGroupLayoutEntry[] = [];
  for (const [, slot, space, access, binding] of code.matchAll(BINDING)) {
    const type = space === "uniform" ? "uniform" : access === "read_write" ? "storage" : "read-only-storage";
    slots.set(binding ?? "", Number(slot));
    entries.push({ binding: Number(slot), visibility: SHADER_STAGE.COMPUTE, buffer: { type } });
  }
  const layout = device.createBindGroupLayout({ label: name, entries });
  const module = device.createShaderModule({ label, code });
  try {
    const pipeline = await device.createComputePipelineAsync({
      label,
      layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: "main", ...(variant.constants ? { constants: variant.constants } : {}) },
    });
    return { pipeline, layout, slots };
  } catch (cause) {
    const detail = await compilerMessages(module, code);
    throw new LlmError(
      "gpu-error",
      `Kernel ${label} does not compile: ${cause instanceof Error ? cause.message : cause}\n${detail}` +
        `Adapter: ${gpu.adapterName}. Browser: ${browserName()}.\n` +
        "Update the browser and the graphics driver, or try another browser. If it still fails, report this whole message.",
      { cause },
    );
  }
}

/** What the compiler said, each message with its line of the shader; every line ends with a line break. */
async function compilerMessages(module: GPUShaderModule, code: string): Promise<string> {
  const { messages } = await module.getCompilationInfo().catch(() => ({ messages: [] })); // a lost device has none to give
  const lines = code.split("\n");
  return messages.map((m) => `${m.type} ${m.lineNum}:${m.linePos} ${m.message}\n    ${lines[m.lineNum - 1] ?? ""}\n`).join("");
}

function browserName(): string {
  return typeof navigator === "undefined" ? "none" : navigator.userAgent;
}

function sorted(record: Readonly<Record<string, unknown>>): [string, unknown][] {
  return Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1));
}
