// Runs both sampling kernels for many steps on the same logits, as the decode loop does.
import type { TrackedBuffer } from "../../src/gpu/buffer";
import type { Gpu } from "../../src/gpu/device";
import { KernelCache } from "../../src/gpu/kernel";
import { readback } from "../../src/gpu/readback";
import { candidateBytes, chunkBytes, sampleCandidates } from "../../src/kernels/sample-candidates";
import { SAMPLE_RESULT_BYTES, samplePick } from "../../src/kernels/sample-pick";
import { encodeSamplingParams, SAMPLING_PARAMS_BYTES, type SamplingParams } from "../../src/kernels/sampling-params";
import { encodeState, type StepRow } from "../../src/kernels/step-state";
import { decodeState } from "./step-state";

export interface SampledRow {
  readonly logits: Float32Array<ArrayBuffer>;
  readonly params: SamplingParams;
  /** None unless given. */
  readonly bias?: Float32Array<ArrayBuffer>;
  readonly counts?: Uint32Array<ArrayBuffer>;
  readonly stopIds?: readonly number[];
  /** The row of the state; at position 7 unless given. Rows have slots of their own. */
  readonly row?: Partial<StepRow>;
}

export interface SamplingRunInput extends SampledRow {
  /** One unless given. */
  readonly steps?: number;
}

/** Of each step: token, why the run ended, step, position. */
export type SamplingResults = readonly (readonly [number, number, number, number])[];

export interface SampledRowOutput {
  readonly results: SamplingResults;
  readonly row: StepRow;
  /** Of the row's slot. */
  readonly counts: Uint32Array;
}

/** One row. */
export async function runSampling(gpu: Gpu, { steps = 1, ...row }: SamplingRunInput): Promise<SampledRowOutput> {
  const [output] = await runSamplingRows(gpu, [row], { steps });
  if (!output) throw new Error("no row came back");
  return output;
}

interface BatchOptions {
  readonly steps?: number;
  /** Rows of the step before those that are sampled; none unless given. */
  readonly before?: readonly StepRow[];
}

/** Several rows in one dispatch. */
export async function runSamplingRows(gpu: Gpu, rows: readonly SampledRow[], options: BatchOptions = {}): Promise<SampledRowOutput[]> {
  const { steps = 1, before = [] } = options;
  const vocab = rows[0]?.logits.length ?? 0;
  const stateRows = rows.map(({ row }) => ({ position: 7, ...row }));
  const slots = 1 + Math.max(...stateRows.map(({ slot = 0 }) => slot));
  const params = new Uint8Array(slots * SAMPLING_PARAMS_BYTES);
  const bias = new Float32Array(slots * vocab);
  const counts = new Uint32Array(slots * vocab);
  rows.forEach((row, index) => {
    const slot = stateRows[index]?.slot ?? 0;
    params.set(new Uint8Array(encodeSamplingParams(row.params, row.stopIds ?? [])), slot * SAMPLING_PARAMS_BYTES);
    bias.set(row.bias ?? [], slot * vocab);
    counts.set(row.counts ?? [], slot * vocab);
  });
  const logits = new Float32Array(rows.flatMap((row) => [...row.logits]));
  const run = await runOnce(gpu, {
    vocab,
    logits,
    params,
    bias,
    counts,
    steps,
    count: rows.length,
    state: encodeState([...before, ...stateRows]),
  });
  const after = decodeState(run.state);
  return rows.map((_, index) => {
    const row = after[before.length + index];
    if (!row) throw new Error("the state lost a row");
    const results = Array.from({ length: steps }, (_, step) => {
      const at = (step * rows.length + index) * 4;
      return [...run.results.subarray(at, at + 4)] as [number, number, number, number];
    });
    return { results, row, counts: run.counts.subarray(row.slot * vocab, (row.slot + 1) * vocab) };
  });
}

interface Dispatches {
  readonly vocab: number;
  readonly logits: Float32Array<ArrayBuffer>;
  readonly params: Uint8Array<ArrayBuffer>;
  readonly bias: Float32Array<ArrayBuffer>;
  readonly counts: Uint32Array<ArrayBuffer>;
  readonly state: Uint32Array<ArrayBuffer>;
  readonly steps: number;
  /** Rows that are sampled. */
  readonly count: number;
}

async function runOnce(gpu: Gpu, { vocab, logits, params, bias, counts, state, steps, count }: Dispatches) {
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
  const resultBytes = count * SAMPLE_RESULT_BYTES;
  try {
    const pristine = create("pristine logits", logits);
    const buffers = {
      logits: create("logits", logits),
      state: create("state", state),
      params: create("params", params),
      bias: create("bias", bias),
      counts: create("counts", counts),
      candidates: create("candidates", count * candidateBytes(vocab)),
      chunks: create("chunks", count * chunkBytes(vocab)),
      result: create("result", resultBytes),
    };
    const results = create("results", steps * resultBytes);
    const views = Object.fromEntries(Object.entries(buffers).map(([name, buffer]) => [name, buffer.view()]));
    const bound = [candidates.bind(views), pick.bind(views)];
    const encoder = gpu.device.createCommandEncoder();
    for (let step = 0; step < steps; step++) {
      encoder.copyBufferToBuffer(pristine.raw, 0, buffers.logits.raw, 0, logits.byteLength);
      const pass = encoder.beginComputePass();
      for (const kernel of bound) kernel.encode(pass, { rows: count, positions: count });
      pass.end();
      encoder.copyBufferToBuffer(buffers.result.raw, 0, results.raw, step * resultBytes, resultBytes);
    }
    gpu.device.queue.submit([encoder.finish()]);
    const words = async (buffer: TrackedBuffer) => new Uint32Array(await readback(gpu, buffer.view()));
    return {
      results: await words(results),
      state: await words(buffers.state),
      counts: await words(buffers.counts),
    };
  } finally {
    for (const buffer of made) buffer.destroy();
  }
}
