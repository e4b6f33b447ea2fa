// Submits the engine's steps: prefill chunks and decode steps of one sequence at a time. Inside a step nothing awaits.
import { abortReason } from "../errors";
import type { Gpu } from "../gpu/device";
import type { StepShape } from "../kernels/step-shape";
import type { Model } from "../model/model";
import { encodeInput, encodeLayers, type Walk } from "../model/walk";
import { type ChunkPacer, fixedChunks, pacedChunks } from "./chunk-pacer";
import { LaneFeed } from "./lane-feed";
import { nextSpan, type PrefillSpan } from "./prefill-span";
import { ResultRing, type StepNote, type StepResult } from "./result-ring";
import type { Sampler } from "./sampler";
import type { Sequence, TokenId } from "./sequence";

export interface StepperOptions {
  /** Rows of a prefill chunk, at most. */
  readonly chunkRows: number;
  /** Decode steps submitted before the first of them is read. */
  readonly stepsAhead: number;
}

export interface PrefillOptions {
  /** Positions to have in the end; all of the sequence's tokens unless given. */
  readonly length?: number;
  readonly signal?: AbortSignal | undefined;
  /** Tokens that the run has sampled already: the next draw goes on from there. */
  readonly sampledBefore?: number;
}

interface Chunk {
  readonly first: number;
  readonly rows: number;
  readonly sampledBefore: number;
}

// Layers in one submit of a prefill chunk: the GPU starts while the rest is encoded, and no submit runs into a driver's watchdog.
const LAYERS_PER_SUBMIT = 8;
// Prefill chunks under way at once: enough to keep the GPU busy, few enough that an abort is felt soon.
const CHUNKS_AHEAD = 2;

export class Stepper {
  readonly model: Model;
  readonly sampler: Sampler;
  readonly options: StepperOptions;
  /** Index of the stage that computes, for the notes of steps. */
  stage = 0;
  readonly #pacer: ChunkPacer;
  readonly #ring: ResultRing;
  readonly #feed: LaneFeed;
  /** Rows of the step that began last. */
  #rows = 0;
  #uploaded: { readonly sequence: Sequence; readonly version: number } | null = null;

  constructor(model: Model, sampler: Sampler, options: StepperOptions) {
    const { gpu, lane, scratch } = model.context;
    this.model = model;
    this.sampler = sampler;
    this.options = options;
    // In software no chunk is quick, and every cut costs.
    this.#pacer = (gpu.features.software ? fixedChunks : pacedChunks)(options.chunkRows, scratch.layout.vectorRows);
    this.#ring = new ResultRing(gpu, options.stepsAhead);
    this.#feed = new LaneFeed(gpu, lane, model.slots.length);
  }

  /**
   * Computes what is not cached of the sequence, in chunks, the groups of layers that have least first; the residual of the last token is left
   * in `x`. Pages must be reserved.
   *
   * @throws the signal's reason; chunks done until then stay cached.
   */
  async prefill(sequence: Sequence, { length = sequence.tokens.length, signal, sampledBefore = 0 }: PrefillOptions = {}): Promise<void> {
    const { gpu } = this.model.context;
    const inFlight: Promise<void>[] = [];
    let lastEnd = 0;
    const end = async (rows: number, start: number) => {
      await gpu.workDone();
      const now = performance.now();
      this.#pacer.took(rows, now - Math.max(start, lastEnd));
      lastEnd = now;
    };
    for (let span = nextSpan(sequence.parts, length); span; span = nextSpan(sequence.parts, length)) {
      // Groups that a missing residual makes it pass through again are read, and not written.
      const reread = sequence.parts.slice(span.sourceGroup, span.firstGroup).map(({ group }) => group);
      const walk = reread.length === 0 ? this.model.walk : await this.model.rereadingWalk(this.model.walk, reread);
      for (let first = span.start; first < span.end; ) {
        if (signal?.aborted) throw abortReason(signal);
        if (inFlight.length >= CHUNKS_AHEAD) await inFlight.shift();
        if (signal?.aborted) throw abortReason(signal);
        const rows = this.#pacer.next(span.end - first);
        const start = performance.now();
        this.#submitChunk(sequence, walk, span, { first, rows, sampledBefore });
        first += rows;
        sequence.markCached(first, span.firstGroup);
        inFlight.push(end(rows, start));
      }
    }
  }

  /** Samples from the last row of a prefill. */
  submitFirstToken(note: StepNote): void {
    this.#submitSampled(this.#rows, note, () => undefined);
  }

  /** One decode step: the token sampled last, at `position`, to the next one. Its page must be reserved. */
  submitDecode(sequence: Sequence, position: number, note: StepNote): void {
    this.#uploadPages(sequence);
    this.#submitSampled(1, note, (pass) => this.model.encodeDecode(pass, position + 1));
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

  /** Sets the state that the next submitted step starts from, uploads its ids and the sequence's page tables. */
  begin(sequence: Sequence, position: number, ids: readonly TokenId[], sampledBefore = 0): void {
    this.#rows = ids.length;
    this.#uploadPages(sequence);
    this.#feed.begin(position, ids, sampledBefore);
  }

  /** Submits one pass. */
  submit(encode: (pass: GPUComputePassEncoder) => void): void {
    submitPass(this.model.context.gpu, encode);
  }

  destroy(): void {
    this.#ring.destroy();
  }

  #submitChunk(sequence: Sequence, walk: Walk, { sourceGroup }: PrefillSpan, { first, rows, sampledBefore }: Chunk): void {
    this.begin(sequence, first, sequence.tokens.slice(first, first + rows), sampledBefore);
    const firstLayer = sequence.parts[sourceGroup]?.group.first ?? 0;
    const shape: StepShape = { rows, positions: first + rows };
    this.submit((pass) => encodeInput(pass, walk, shape, firstLayer));
    const end = this.model.slots.length;
    for (let layer = firstLayer; layer < end; layer += LAYERS_PER_SUBMIT) {
      this.submit((pass) => encodeLayers(pass, walk, shape, layer, Math.min(end, layer + LAYERS_PER_SUBMIT)));
    }
  }

  #submitSampled(rows: number, note: StepNote, encodeBefore: (pass: GPUComputePassEncoder) => void): void {
    const { device } = this.model.context.gpu;
    const encoder = device.createCommandEncoder();
    inPass(encoder, (pass) => {
      encodeBefore(pass);
      this.model.encodeHead(pass, rows);
      this.sampler.encode(pass);
    });
    this.#ring.copyAndSubmit(encoder, this.sampler.result, note, () => device.queue.submit([encoder.finish()]));
  }

  #uploadPages(sequence: Sequence): void {
    const { pagesVersion } = sequence;
    if (this.#uploaded?.sequence === sequence && this.#uploaded.version === pagesVersion) return;
    this.#feed.uploadPages(sequence.parts);
    this.#uploaded = { sequence, version: pagesVersion };
  }
}

/** Submits one pass. */
export function submitPass({ device }: Gpu, encode: (pass: GPUComputePassEncoder) => void): void {
  const encoder = device.createCommandEncoder();
  inPass(encoder, encode);
  device.queue.submit([encoder.finish()]);
}

function inPass(encoder: GPUCommandEncoder, encode: (pass: GPUComputePassEncoder) => void): void {
  const pass = encoder.beginComputePass();
  encode(pass);
  pass.end();
}
