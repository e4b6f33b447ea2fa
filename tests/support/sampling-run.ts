// Runs both sampling kernels for many steps on the same logits, as the decode loop does.
import type { TrackedBuffer } from "../../src/gpu/buffer";
import type { Gpu } from "../../src/gpu/device";
import { KernelCache } from "../../src/gpu/kernel";
import { readback } from "../../src/gpu/readback";
import { candidateBytes, chunkBytes, sampleCandidates } from "../../src/kernels/sample-candidates";
import { SAMPLE_RESULT_BYTES, samplePick } from "../../src/kernels/sample-pick";
import { encodeSamplingParams, type SamplingParams } from "../../src/kernels/sampling-params";

export interface SamplingRunInput {
  readonly logits: Float32Array<ArrayBuffer>;
  readonly params: SamplingParams;
  /** None unless given. */
  readonly bias?: Float32Array<ArrayBuffer>;
  readonly counts?: Uint32Array<ArrayBuffer>;
  readonly stopIds?: readonly number[];
  /** Position, rows, stopped, step. */
  readonly state?: Uint32Array<ArrayBuffer>;
  /** One unless given. */
  readonly steps?: number;
}

export interface SamplingRunOutput {
  /** Of each step: token, why the run ended, step, position. */
  readonly results: readonly (readonly [number, number, number, number])[];
  readonly state: Uint32Array;
  readonly counts: Uint32Array;
  readonly ids: Uint32Array;
}

const STEP = { rows: 1, positions: 1 };

export async function runSampling(gpu: Gpu, input: SamplingRunInput): Promise<SamplingRunOutput> {
  const { logits, params, stopIds = [], steps = 1 } = input;
  const vocab = logits.length;
  const cache = KernelCache.of(gpu);
  const [candidates, pick] = await Promise.all([cache.compile(sampleCandidates, { vocab }), cache.compile(samplePick, { vocab })]);
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
  const made: TrackedBuffer[] = [];
  const create = (label: string, contents: ArrayBufferView<ArrayBuffer> | number) => {
    const bytes = typeof contents === "number" ? contents : contents.byteLength;
    const buffer = gpu.createBuffer(label, bytes, "scratch", usage);
    if (typeof contents !== "number") gpu.device.queue.writeBuffer(buffer.raw, 0, contents);
    made.push(buffer);
    return buffer;
  };
  try {
    const pristine = create("pristine logits", logits);
    const buffers = {
      logits: create("logits", logits),
      state: create("state", input.state ?? new Uint32Array([7, 1, 0, 0])),
      params: create("params", new Uint8Array(encodeSamplingParams(params, stopIds))),
      bias: create("bias", input.bias ?? new Float32Array(vocab)),
      counts: create("counts", input.counts ?? new Uint32Array(vocab)),
      candidates: create("candidates", candidateBytes(vocab)),
      chunks: create("chunks", chunkBytes(vocab)),
      ids: create("ids", 16),
      result: create("result", SAMPLE_RESULT_BYTES),
    };
    const results = create("results", steps * SAMPLE_RESULT_BYTES);
    const views = Object.fromEntries(Object.entries(buffers).map(([name, buffer]) => [name, buffer.view()]));
    const bound = [candidates.bind(views), pick.bind(views)];
    const encoder = gpu.device.createCommandEncoder();
    for (let step = 0; step < steps; step++) {
      encoder.copyBufferToBuffer(pristine.raw, 0, buffers.logits.raw, 0, logits.byteLength);
      const pass = encoder.beginComputePass();
      for (const kernel of bound) kernel.encode(pass, STEP);
      pass.end();
      encoder.copyBufferToBuffer(buffers.result.raw, 0, results.raw, step * SAMPLE_RESULT_BYTES, SAMPLE_RESULT_BYTES);
    }
    gpu.device.queue.submit([encoder.finish()]);
    const words = async (buffer: TrackedBuffer, length: number) => new Uint32Array(await readback(gpu, buffer.view()), 0, length);
    const all = await words(results, steps * 4);
    return {
      results: Array.from({ length: steps }, (_, step) => [...all.subarray(step * 4, step * 4 + 4)] as [number, number, number, number]),
      state: await words(buffers.state, 4),
      counts: await words(buffers.counts, vocab),
      ids: await words(buffers.ids, 1),
    };
  } finally {
    for (const buffer of made) buffer.destroy();
  }
}
