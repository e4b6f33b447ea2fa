// Encodes the engine's steps and submits them: chunks of a prompt, decode steps of several sequences. Inside a step nothing awaits.
import type { Gpu } from "../gpu/device";
import type { StepShape } from "../kernels/step-shape";
import type { KvGroup } from "../kv/kv-cache";
import type { Model } from "../model/model";
import { encodeInput, encodeLayers, type Walk } from "../model/walk";
import { LaneFeed } from "./lane-feed";
import type { PrefillSpan } from "./prefill-span";
import { ResultRing, type RowResult } from "./result-ring";
import type { Sampler } from "./sampler";
import type { Sequence, TokenId } from "./sequence";

export interface StepperOptions {
  /** Sampled steps that can be under way at once. */
  readonly stepsAhead: number;
  /** Sequences in a decode step, at most. */
  readonly batchSize: number;
}

/** A row of a decode step: the sequence's newest token, which the GPU has sampled itself. */
export interface DecodeRow {
  readonly sequence: Sequence;
  /** Where the sequence has its page table and its sampling settings. */
  readonly slot: number;
  /** Of the row's token. */
  readonly position: number;
}

/** The first rows of a span. */
export interface PromptChunk {
  readonly sequence: Sequence;
  readonly slot: number;
  readonly span: PrefillSpan;
  readonly walk: Walk;
  readonly rows: number;
  readonly layersPerSubmit: number;
  /** Tokens that the run has sampled already: the next draw goes on from there. */
  readonly sampledBefore: number;
}

interface RereadingWalk {
  readonly base: Walk;
  readonly groups: readonly KvGroup[];
  readonly walk: Walk;
}

export class Stepper {
  readonly model: Model;
  readonly sampler: Sampler;
  readonly #ring: ResultRing;
  readonly #feed: LaneFeed;
  /** The slots whose rows the lane holds, in their order; the others rest in its seats. */
  #seated: readonly number[] = [];
  /** Rows of the chunk submitted last. */
  #chunkRows = 0;
  /** By slot, what its page table holds. */
  readonly #uploaded = new Map<number, { readonly sequence: Sequence; readonly version: number }>();
  #rereading: RereadingWalk | null = null;

  constructor(model: Model, sampler: Sampler, { stepsAhead, batchSize }: StepperOptions) {
    const { gpu, lane } = model.context;
    this.model = model;
    this.sampler = sampler;
    this.#ring = new ResultRing(gpu, stepsAhead, batchSize);
    this.#feed = new LaneFeed(gpu, lane, model.slots.length);
  }

  /** Whether another sampled step can be submitted before a result has come back. */
  get canSample(): boolean {
    return !this.#ring.isFull;
  }

  /**
   * The walk of a span. Where a missing residual makes it pass through lower groups again, those are read and not written, by kernels that few ever
   * need: null until `prepareWalk` has bound them.
   */
  walkOf(sequence: Sequence, span: PrefillSpan): Walk | null {
    const { walk } = this.model;
    const groups = rereadGroups(sequence, span);
    if (groups.length === 0) return walk;
    const known = this.#rereading;
    const isSame = known?.base.residuals === walk.residuals && known.groups.length === groups.length;
    return known && isSame && groups.every((group, index) => group === known.groups[index]) ? known.walk : null;
  }

  async prepareWalk(sequence: Sequence, span: PrefillSpan): Promise<void> {
    const { walk: base } = this.model;
    const groups = rereadGroups(sequence, span);
    this.#rereading = { base, groups, walk: await this.model.rereadingWalk(base, groups) };
  }

  /** The part of the model's layers that a span's rows run through. */
  partOf(sequence: Sequence, span: PrefillSpan): number {
    const { length } = this.model.slots;
    return (length - firstLayerOf(sequence, span)) / length;
  }

  /** Computes a chunk's K/V, and leaves the residual of its last row in `x`. Its pages must be reserved. */
  submitChunk({ sequence, slot, span, walk, rows, layersPerSubmit, sampledBefore }: PromptChunk): void {
    const { start: first } = span;
    this.begin(sequence, slot, first, sequence.tokens.slice(first, first + rows), sampledBefore);
    const firstLayer = firstLayerOf(sequence, span);
    const shape: StepShape = { rows, positions: first + rows };
    this.submit((pass) => encodeInput(pass, walk, shape, firstLayer));
    const end = this.model.slots.length;
    for (let layer = firstLayer; layer < end; layer += layersPerSubmit) {
      this.submit((pass) => encodeLayers(pass, walk, shape, layer, Math.min(end, layer + layersPerSubmit)));
    }
  }

  /** Samples from the last row of the chunk submitted last, which is `slot`'s; decode steps go on from there. */
  submitFirstToken(slot: number): Promise<readonly RowResult[]> {
    const encoder = this.#gpu.device.createCommandEncoder();
    inPass(encoder, (pass) => this.#sample(pass, 1));
    this.#feed.park(encoder, [{ row: this.#chunkRows - 1, slot }]);
    return this.#ring.submit(encoder, this.sampler.result, 1);
  }

  /** One decode step: of each row the token sampled last, to the next one. Pages must be reserved. */
  submitDecode(rows: readonly DecodeRow[]): Promise<readonly RowResult[]> {
    for (const { sequence, slot } of rows) this.#uploadPages(sequence, slot);
    const encoder = this.#gpu.device.createCommandEncoder();
    this.#arrange(
      encoder,
      rows.map(({ slot }) => slot),
    );
    const positions = Math.max(...rows.map(({ position }) => position)) + 1;
    inPass(encoder, (pass) => {
      this.model.encodeDecode(pass, { rows: rows.length, positions });
      this.#sample(pass, rows.length);
    });
    return this.#ring.submit(encoder, this.sampler.result, rows.length);
  }

  /** Sets up the lane for rows of one sequence, the first of them at `position`. */
  begin(sequence: Sequence, slot: number, position: number, ids: readonly TokenId[], sampledBefore = 0): void {
    if (this.#seated.length > 0) {
      const encoder = this.#gpu.device.createCommandEncoder();
      this.#arrange(encoder, []);
      this.#gpu.device.queue.submit([encoder.finish()]);
    }
    this.#chunkRows = ids.length;
    this.#uploadPages(sequence, slot);
    this.#feed.beginChunk({ position, ids, slot, sampledBefore });
  }

  /** Submits one pass. */
  submit(encode: (pass: GPUComputePassEncoder) => void): void {
    submitPass(this.#gpu, encode);
  }

  destroy(): void {
    this.#ring.destroy();
  }

  get #gpu(): Gpu {
    return this.model.context.gpu;
  }

  #sample(pass: GPUComputePassEncoder, rows: number): void {
    this.model.encodeHead(pass, rows);
    this.sampler.encode(pass, rows);
  }

  /** Has the lane hold the rows of `slots` alone, in their order. */
  #arrange(encoder: GPUCommandEncoder, slots: readonly number[]): void {
    const seated = this.#seated;
    if (seated.length === slots.length && seated.every((slot, row) => slot === slots[row])) return;
    this.#feed.park(
      encoder,
      seated.map((slot, row) => ({ row, slot })),
    );
    if (slots.length > 0) this.#feed.seat(encoder, slots);
    this.#seated = slots;
  }

  #uploadPages(sequence: Sequence, slot: number): void {
    const { pagesVersion } = sequence;
    const known = this.#uploaded.get(slot);
    if (known?.sequence === sequence && known.version === pagesVersion) return;
    this.#feed.uploadPages(slot, sequence.parts);
    this.#uploaded.set(slot, { sequence, version: pagesVersion });
  }
}

function firstLayerOf({ parts }: Sequence, { sourceGroup }: PrefillSpan): number {
  return parts[sourceGroup]?.group.first ?? 0;
}

function rereadGroups({ parts }: Sequence, { sourceGroup, firstGroup }: PrefillSpan): readonly KvGroup[] {
  return parts.slice(sourceGroup, firstGroup).map(({ group }) => group);
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
