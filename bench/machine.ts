// What are this machine's limits? The bandwidth of plain reads, and the cost of dispatches and submits.
import type { Gpu } from "../src/gpu/device";
import { gpuTime, repeatTimes, wallTime } from "./gpu-time";

export interface MachineFigures {
  /** GB/s of reading a buffer much larger than the last-level cache. */
  readonly readGBps: number;
  /** Microseconds of a dispatch that reads what the previous one wrote. */
  readonly dependentDispatchUs: number;
  readonly independentDispatchUs: number;
  /** Wall time of a dependent dispatch, from many in one submit: includes the work of the browser before the GPU begins. */
  readonly dispatchWallUs: number;
  /** Microseconds from an empty submit to its completion. */
  readonly submitUs: number;
}

const READ_BYTES = 512 * 2 ** 20;
const READERS = 132 * 8 * 256;

const READ = /* wgsl */ `
@group(0) @binding(0) var<storage, read> source: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> target_: array<vec4<u32>>;
@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
  let step = workgroups.x * 256u;
  var sum = vec4<u32>();
  for (var i = id.x; i < arrayLength(&source); i += 4u * step) {
    sum += source[i] + source[i + step] + source[i + 2u * step] + source[i + 3u * step];
  }
  if (all(sum == vec4<u32>(0x12345u))) { target_[0] = sum; }
}`;

// Dependent if all dispatches share a buffer, independent otherwise.
const STEP = /* wgsl */ `
@group(0) @binding(0) var<storage, read_write> counter: array<u32>;
@compute @workgroup_size(32)
fn main(@builtin(local_invocation_index) thread: u32) { if (thread == 0u) { counter[0] += 1u; } }`;

export async function measureMachine(gpu: Gpu): Promise<MachineFigures> {
  const { device, maxBindingBytes } = gpu;
  const bytes = Math.min(READ_BYTES, 2 ** Math.floor(Math.log2(maxBindingBytes)));
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST;
  const source = gpu.createBuffer("read", bytes, "scratch", usage);
  const counters = Array.from({ length: 64 }, (_, i) => gpu.createBuffer(`counter ${i}`, 256, "scratch", usage));
  const pipelineOf = (code: string) =>
    device.createComputePipelineAsync({ layout: "auto", compute: { module: device.createShaderModule({ code }), entryPoint: "main" } });
  const [read, step] = await Promise.all([pipelineOf(READ), pipelineOf(STEP)]);
  const groupOf = (pipeline: GPUComputePipeline, buffers: readonly GPUBuffer[]) =>
    device.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: buffers.map((buffer, binding) => ({ binding, resource: { buffer } })),
    });
  const dispatch = (pass: GPUComputePassEncoder, pipeline: GPUComputePipeline, group: GPUBindGroup | undefined, count: number) => {
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group ?? null);
    pass.dispatchWorkgroups(count);
  };
  const groups = counters.map(({ raw }) => groupOf(step, [raw]));
  const readGroup = groupOf(read, [source.raw, counters[0]?.raw ?? source.raw]);
  const readers = Math.min(READERS, bytes / 64) / 256;
  try {
    const readMs = await gpuTime(gpu, { encode: (pass) => dispatch(pass, read, readGroup, readers) });
    const dependent = await repeatTimes(gpu, { encode: (pass) => dispatch(pass, step, groups[0], 1) });
    const independentMs = await gpuTime(gpu, { encode: (pass, i) => dispatch(pass, step, groups[i % groups.length], 1) });
    const submits: number[] = [];
    for (let i = 0; i < 20; i++) {
      submits.push(
        await wallTime(() => {
          device.queue.submit([device.createCommandEncoder().finish()]);
          return device.queue.onSubmittedWorkDone();
        }),
      );
    }
    submits.sort((a, b) => a - b);
    return {
      readGBps: bytes / readMs / 1e6,
      dependentDispatchUs: 1000 * (dependent.gpuMs ?? dependent.wallMs),
      independentDispatchUs: 1000 * independentMs,
      dispatchWallUs: 1000 * dependent.wallMs,
      submitUs: 1000 * (submits[10] ?? 0),
    };
  } finally {
    for (const buffer of [source, ...counters]) buffer.destroy();
  }
}
