// Sampling on the GPU: two dispatches after the head, whose token feeds the next step without a visit to the CPU.

import type { TrackedBuffer } from "../gpu/buffer";
import type { Gpu } from "../gpu/device";
import type { BoundKernel } from "../gpu/kernel";
import { BUFFER_USAGE } from "../gpu/webgpu-flags";
import { candidateBytes, chunkBytes, sampleCandidates } from "../kernels/sample-candidates";
import { SAMPLE_RESULT_BYTES, samplePick } from "../kernels/sample-pick";
import { encodeSamplingParams, IN_PROMPT, SAMPLING_PARAMS_BYTES } from "../kernels/sampling-params";
import type { StepShape } from "../kernels/step-shape";
import type { ProgramContext } from "../model/program-context";
import { type RowSet, subtractRows } from "../weights/row-set";
import type { ResolvedSampling } from "./sampling-settings";
import type { TokenId } from "./sequence";

/** Bytes of what a sampled row reports. */
export const RESULT_BYTES = SAMPLE_RESULT_BYTES;

type SamplerBuffers = Readonly<Record<"params" | "bias" | "counts" | "candidates" | "chunks" | "result", TrackedBuffer>>;

export class Sampler {
  readonly #gpu: Gpu;
  readonly #vocabSize: number;
  readonly #buffers: SamplerBuffers;
  readonly #steps: readonly BoundKernel<StepShape>[];
  #absent: RowSet = [];
  /** Of the runs that began in each slot last. */
  readonly #logitBiases = new Map<number, ResolvedSampling["logitBias"]>();

  private constructor(gpu: Gpu, vocabSize: number, buffers: SamplerBuffers, steps: readonly BoundKernel<StepShape>[]) {
    this.#gpu = gpu;
    this.#vocabSize = vocabSize;
    this.#buffers = buffers;
    this.#steps = steps;
  }

  /** @throws LlmError "out-of-memory" | "gpu-error" */
  static async create({ gpu, kernels, config, scratch, lane }: ProgramContext): Promise<Sampler> {
    const options = { vocab: config.vocabSize };
    const { slots } = lane;
    const [candidatesKernel, pickKernel] = await Promise.all([
      kernels.compile(sampleCandidates, options),
      kernels.compile(samplePick, options),
    ]);
    const usage = BUFFER_USAGE.STORAGE | BUFFER_USAGE.COPY_DST | BUFFER_USAGE.COPY_SRC;
    const create = (label: string, bytes: number) => gpu.createBuffer(label, bytes, "scratch", usage);
    const buffers = await gpu.checked(
      "the sampler",
      () => ({
        params: create("sampling params", slots * SAMPLING_PARAMS_BYTES),
        bias: create("logit bias", slots * config.vocabSize * 4),
        counts: create("token counts", slots * config.vocabSize * 4),
        candidates: create("candidates", slots * candidateBytes(config.vocabSize)),
        chunks: create("candidate chunks", slots * chunkBytes(config.vocabSize)),
        result: create("sampled tokens", slots * RESULT_BYTES),
      }),
      destroyBuffers,
    );
    const views = Object.fromEntries(Object.entries(buffers).map(([name, buffer]) => [name, buffer.view()]));
    const shared = { ...views, state: lane.tensor("state"), logits: scratch.tensor("logits") };
    return new Sampler(gpu, config.vocabSize, buffers, [candidatesKernel.bind(shared), pickKernel.bind(shared)]);
  }

  /** What the tokens of a step are copied from: `RESULT_BYTES` a sampled row. */
  get result(): GPUBuffer {
    return this.#buffers.result.raw;
  }

  /** Sets up a run in a slot: settings, tokens that end it, and the tokens that penalties count, the last `saidCount` of which are the answer's. */
  begin(slot: number, settings: ResolvedSampling, stopIds: readonly TokenId[], tokens: readonly TokenId[], saidCount = 0): void {
    const { queue } = this.#gpu.device;
    queue.writeBuffer(this.#buffers.params.raw, slot * SAMPLING_PARAMS_BYTES, encodeSamplingParams(settings, stopIds));
    const counts = new Uint32Array(this.#vocabSize);
    const promptLength = tokens.length - saidCount;
    for (const id of tokens.slice(0, promptLength)) counts[id] = IN_PROMPT;
    for (const id of tokens.slice(promptLength)) counts[id] = (counts[id] ?? 0) + 1;
    queue.writeBuffer(this.#buffers.counts.raw, slot * counts.byteLength, counts);
    this.#logitBiases.set(slot, settings.logitBias);
    this.#writeBias(slot);
  }

  /** From the next step on, tokens outside `present` are never drawn: their rows are not there. */
  setPresentRows(present: RowSet): void {
    this.#absent = subtractRows([{ start: 0, end: this.#vocabSize }], present);
    for (const slot of this.#logitBiases.keys()) this.#writeBias(slot);
  }

  /** From `logits` of the last `rows` rows of the step to their next tokens, in the state and `result`. */
  encode(pass: GPUComputePassEncoder, rows: number): void {
    for (const step of this.#steps) step.encode(pass, { rows, positions: rows });
  }

  destroy(): void {
    destroyBuffers(this.#buffers);
  }

  #writeBias(slot: number): void {
    const bias = new Float32Array(this.#vocabSize);
    for (const [id, value] of this.#logitBiases.get(slot) ?? []) bias[id] = value;
    for (const { start, end } of this.#absent) bias.fill(Number.NEGATIVE_INFINITY, start, end);
    this.#gpu.device.queue.writeBuffer(this.#buffers.bias.raw, slot * bias.byteLength, bias);
  }
}

function destroyBuffers(buffers: SamplerBuffers): void {
  for (const buffer of Object.values(buffers)) buffer.destroy();
}
