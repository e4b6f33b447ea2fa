// Sampling on the GPU: two dispatches after the head, whose token feeds the next step without a visit to the CPU.

import type { TrackedBuffer } from "../gpu/buffer";
import type { Gpu } from "../gpu/device";
import type { BoundKernel } from "../gpu/kernel";
import { BUFFER_USAGE } from "../gpu/webgpu-flags";
import { candidateBytes, chunkBytes, sampleCandidates } from "../kernels/sample-candidates";
import { samplePick } from "../kernels/sample-pick";
import { encodeSamplingParams, IN_PROMPT, SAMPLING_PARAMS_BYTES } from "../kernels/sampling-params";
import type { StepShape } from "../kernels/step-shape";
import type { ProgramContext } from "../model/program-context";
import { type RowSet, subtractRows } from "../weights/row-set";
import type { ResolvedSampling } from "./sampling-settings";
import type { TokenId } from "./sequence";

/** Bytes of what a step reports: token, why it stopped, step, position; u32 each. */
export const RESULT_BYTES = 16;

const ONE_ROW: StepShape = { rows: 1, positions: 1 };

type SamplerBuffers = Readonly<Record<"params" | "bias" | "counts" | "candidates" | "chunks" | "result", TrackedBuffer>>;

export class Sampler {
  readonly #gpu: Gpu;
  readonly #vocabSize: number;
  readonly #buffers: SamplerBuffers;
  readonly #steps: readonly BoundKernel<StepShape>[];
  #absent: RowSet = [];
  #logitBias: ResolvedSampling["logitBias"] = new Map();

  private constructor(gpu: Gpu, vocabSize: number, buffers: SamplerBuffers, steps: readonly BoundKernel<StepShape>[]) {
    this.#gpu = gpu;
    this.#vocabSize = vocabSize;
    this.#buffers = buffers;
    this.#steps = steps;
  }

  /** @throws LlmError "out-of-memory" | "gpu-error" */
  static async create({ gpu, kernels, config, scratch, lane, subgroups }: ProgramContext): Promise<Sampler> {
    const options = { vocab: config.vocabSize, subgroups };
    const [candidatesKernel, pickKernel] = await Promise.all([
      kernels.compile(sampleCandidates, options),
      kernels.compile(samplePick, options),
    ]);
    const usage = BUFFER_USAGE.STORAGE | BUFFER_USAGE.COPY_DST | BUFFER_USAGE.COPY_SRC;
    const create = (label: string, bytes: number) => gpu.createBuffer(label, bytes, "scratch", usage);
    const buffers = await gpu.checked(
      "the sampler",
      () => ({
        params: create("sampling params", SAMPLING_PARAMS_BYTES),
        bias: create("logit bias", config.vocabSize * 4),
        counts: create("token counts", config.vocabSize * 4),
        candidates: create("candidates", candidateBytes(config.vocabSize)),
        chunks: create("candidate chunks", chunkBytes(config.vocabSize)),
        result: create("sampled token", RESULT_BYTES),
      }),
      destroyBuffers,
    );
    const views = Object.fromEntries(Object.entries(buffers).map(([name, buffer]) => [name, buffer.view()]));
    const shared = { ...views, state: lane.tensor("state"), logits: scratch.tensor("logits"), ids: lane.tensor("ids") };
    return new Sampler(gpu, config.vocabSize, buffers, [candidatesKernel.bind(shared), pickKernel.bind(shared)]);
  }

  /** What each step's token is copied from. */
  get result(): GPUBuffer {
    return this.#buffers.result.raw;
  }

  /** Sets up a run: settings, tokens that end it, and the tokens that penalties count, the last `saidCount` of which are the answer's. */
  begin(settings: ResolvedSampling, stopIds: readonly TokenId[], tokens: readonly TokenId[], saidCount = 0): void {
    const { queue } = this.#gpu.device;
    queue.writeBuffer(this.#buffers.params.raw, 0, encodeSamplingParams(settings, stopIds));
    const counts = new Uint32Array(this.#vocabSize);
    const promptLength = tokens.length - saidCount;
    for (const id of tokens.slice(0, promptLength)) counts[id] = IN_PROMPT;
    for (const id of tokens.slice(promptLength)) counts[id] = (counts[id] ?? 0) + 1;
    queue.writeBuffer(this.#buffers.counts.raw, 0, counts);
    this.#logitBias = settings.logitBias;
    this.#writeBias();
  }

  /** From the next step on, tokens outside `present` are never drawn: their rows are not there. */
  setPresentRows(present: RowSet): void {
    this.#absent = subtractRows([{ start: 0, end: this.#vocabSize }], present);
    this.#writeBias();
  }

  /** From `logits` to the next token, in `ids[0]`, the state and `result`. */
  encode(pass: GPUComputePassEncoder): void {
    for (const step of this.#steps) step.encode(pass, ONE_ROW);
  }

  destroy(): void {
    destroyBuffers(this.#buffers);
  }

  #writeBias(): void {
    const bias = new Float32Array(this.#vocabSize);
    for (const [id, value] of this.#logitBias) bias[id] = value;
    for (const { start, end } of this.#absent) bias.fill(Number.NEGATIVE_INFINITY, start, end);
    this.#gpu.device.queue.writeBuffer(this.#buffers.bias.raw, 0, bias);
  }
}

function destroyBuffers(buffers: SamplerBuffers): void {
  for (const buffer of Object.values(buffers)) buffer.destroy();
}
