// Submits the engine's steps: prefill chunks and decode steps of one sequence at a time. Inside a step nothing awaits.
import { abortReason } from "../errors";
import type { StepShape } from "../kernels/step-shape";
import type { Model } from "../model/model";
import { ResultRing, type StepResult } from "./result-ring";
import type { Sampler } from "./sampler";
import type { Sequence, TokenId } from "./sequence";

export interface StepperOptions {
  /** Rows of a prefill chunk, at most. */
  readonly chunkRows: number;
  /** Decode steps submitted before the first of them is read. */
  readonly stepsAhead: number;
}

// Layers in one submit of a prefill chunk: the GPU starts while the rest is encoded, and no submit runs into a driver's watchdog.
const LAYERS_PER_SUBMIT = 8;
// Prefill chunks under way at once: enough to keep the GPU busy, few enough that an abort is felt soon.
const CHUNKS_AHEAD = 2;

export class Stepper {
  readonly model: Model;
  readonly sampler: Sampler;
  readonly options: StepperOptions;
  readonly #ring: ResultRing;
  /** Rows of the step that began last. */
  #rows = 0;
  #uploaded: { readonly sequence: Sequence; readonly version: number } | null = null;

  constructor(model: Model, sampler: Sampler, options: StepperOptions) {
    this.model = model;
    this.sampler = sampler;
    this.options = options;
    this.#ring = new ResultRing(model.context.gpu, options.stepsAhead);
  }

  /**
   * Computes K/V of the sequence's tokens that are not cached, in chunks; the residual of the last one is left in
   * `x`. Pages must be reserved.
   *
   * @throws the signal's reason; chunks done until then stay cached.
   */
  async prefill(sequence: Sequence, signal?: AbortSignal, onChunk?: (cachedLength: number) => void): Promise<void> {
    const { queue } = this.model.context.gpu.device;
    const inFlight: Promise<undefined>[] = [];
    while (sequence.cachedLength < sequence.tokens.length) {
      if (signal?.aborted) throw abortReason(signal);
      if (inFlight.length >= CHUNKS_AHEAD) await inFlight.shift();
      if (signal?.aborted) throw abortReason(signal);
      const first = sequence.cachedLength;
      const ids = sequence.tokens.slice(first, first + this.options.chunkRows);
      this.#submitChunk(sequence, first, ids);
      sequence.markCached(first + ids.length);
      inFlight.push(queue.onSubmittedWorkDone());
      onChunk?.(sequence.cachedLength);
    }
  }

  /** Samples from the last row of a prefill. */
  submitFirstToken(): void {
    this.#submitSampled(this.#rows, () => undefined);
  }

  /** One decode step: the token sampled last, at `position`, to the next one. Its page must be reserved. */
  submitDecode(sequence: Sequence, position: number): void {
    this.#uploadTable(sequence);
    this.#submitSampled(1, (pass) => this.model.encodeDecode(pass, position + 1));
  }

  get canSubmit(): boolean {
    return !this.#ring.isFull;
  }

  get pendingCount(): number {
    return this.#ring.pendingCount;
  }

  takeResult(): Promise<StepResult> {
    return this.#ring.take();
  }

  drain(): Promise<void> {
    return this.#ring.drain();
  }

  /** Sets the state that the next submitted step starts from, uploads its ids and the sequence's page table. */
  begin(sequence: Sequence, position: number, ids: readonly TokenId[]): void {
    const { queue } = this.model.context.gpu.device;
    const { scratch } = this.model.context;
    this.#rows = ids.length;
    this.#uploadTable(sequence);
    queue.writeBuffer(scratch.buffer("ids"), 0, new Uint32Array(ids));
    queue.writeBuffer(scratch.buffer("state"), 0, new Uint32Array([position, ids.length, 0, 0]));
  }

  /** Submits one pass. */
  submit(encode: (pass: GPUComputePassEncoder) => void): void {
    const { device } = this.model.context.gpu;
    const encoder = device.createCommandEncoder();
    inPass(encoder, encode);
    device.queue.submit([encoder.finish()]);
  }

  destroy(): void {
    this.#ring.destroy();
  }

  #submitChunk(sequence: Sequence, first: number, ids: readonly TokenId[]): void {
    this.begin(sequence, first, ids);
    if (ids.length === 1) {
      this.submit((pass) => this.model.encodeDecode(pass, first + 1));
      return;
    }
    const shape: StepShape = { rows: ids.length, positions: first + ids.length };
    this.submit((pass) => this.model.encodeEmbedding(pass, shape));
    const layerCount = this.model.slots.length;
    for (let layer = 0; layer < layerCount; layer += LAYERS_PER_SUBMIT) {
      this.submit((pass) => this.model.encodePrefill(pass, shape, layer, layer + LAYERS_PER_SUBMIT));
    }
  }

  #submitSampled(rows: number, encodeBefore: (pass: GPUComputePassEncoder) => void): void {
    const { device } = this.model.context.gpu;
    const encoder = device.createCommandEncoder();
    inPass(encoder, (pass) => {
      encodeBefore(pass);
      this.model.encodeHead(pass, rows);
      this.sampler.encode(pass);
    });
    this.#ring.copyAndSubmit(encoder, this.sampler.result, () => device.queue.submit([encoder.finish()]));
  }

  #uploadTable(sequence: Sequence): void {
    const { table } = sequence;
    if (this.#uploaded?.sequence === sequence && this.#uploaded.version === table.version) return;
    const { gpu, scratch } = this.model.context;
    const rowWords = scratch.tableRowBytes / 4;
    const rows = new Uint32Array(rowWords * this.model.slots.length);
    for (let layer = 0; layer < this.model.slots.length; layer++) rows.set(table.pages, layer * rowWords);
    gpu.device.queue.writeBuffer(scratch.buffer("table"), 0, rows);
    this.#uploaded = { sequence, version: table.version };
  }
}

function inPass(encoder: GPUCommandEncoder, encode: (pass: GPUComputePassEncoder) => void): void {
  const pass = encoder.beginComputePass();
  encode(pass);
  pass.end();
}
