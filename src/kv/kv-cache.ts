// The GPU buffers of the paged K/V cache: K and V of each layer apart, since a binding holds at most 128 MiB by default.
// Layers whose weights change together form a group, with pages of its own: an upgrade replaces whole groups, and leaves the others as they are.
import { assert, present } from "../assert";
import { LlmError } from "../errors";
import type { GpuTensor, TrackedBuffer } from "../gpu/buffer";
import type { Gpu } from "../gpu/device";
import { BUFFER_USAGE } from "../gpu/webgpu-flags";
import { type PageId, PagePool } from "./page-pool";
import { PrefixIndex } from "./prefix-index";

/** f16 halves the bytes and needs no device feature: values are packed two to a u32. */
export type KvFormat = "f16" | "f32";

export interface KvLayout {
  readonly kvHeadCount: number;
  readonly headDim: number;
  readonly pageSize: number;
  readonly pageCount: number;
  readonly format: KvFormat;
  /** Floats between the rows of a recorded residual. */
  readonly residualStride: number;
}

/** Bytes of one page of K (or of V) in one layer. */
export function pageBytes(layout: Pick<KvLayout, "kvHeadCount" | "headDim" | "pageSize" | "format">): number {
  return layout.kvHeadCount * layout.pageSize * layout.headDim * (layout.format === "f16" ? 2 : 4);
}

/** Bytes of one page of residuals: [pageSize, residualStride] f32. */
export function residualPageBytes({ pageSize, residualStride }: Pick<KvLayout, "pageSize" | "residualStride">): number {
  return pageSize * residualStride * 4;
}

export interface KvGroupShape {
  /** Layers [first, end) of the model. */
  readonly first: number;
  readonly end: number;
  /** Those of them that are present; an absent layer has no K/V. */
  readonly layers: readonly number[];
  /** Says which weights write these K/V, and the residual that leaves the group: `signatures` of stages/plan at `end`. */
  readonly signature: string;
  /** Whether the residual that enters layer `end` is recorded, for an upgrade that begins there. */
  readonly recordsResidual: boolean;
}

/** Pages of one kind, one after another. */
export interface PagedBuffer {
  readonly name: string;
  readonly buffer: GPUBuffer;
  readonly pageBytes: number;
}

/** The name of the buffer of residuals among a group's. */
export const RESIDUALS = "residuals";

export class KvGroup {
  readonly first: number;
  readonly end: number;
  readonly layers: readonly number[];
  readonly signature: string;
  readonly layout: KvLayout;
  readonly pool: PagePool;
  readonly prefixes: PrefixIndex;
  readonly #gpu: Gpu;
  readonly #keys = new Map<number, TrackedBuffer>();
  readonly #values = new Map<number, TrackedBuffer>();
  #residuals: TrackedBuffer | null;
  #recordsResidual: boolean;
  /** Copies under way, and what they still need of what has been given up. */
  #readers = 0;
  readonly #givenUp: TrackedBuffer[] = [];

  /** @throws LlmError "out-of-memory" when a layer's K or V is larger than the device can bind. */
  constructor(gpu: Gpu, layout: KvLayout, { first, end, layers, signature, recordsResidual }: KvGroupShape) {
    this.first = first;
    this.end = end;
    this.layers = layers;
    this.signature = signature;
    this.layout = layout;
    this.#gpu = gpu;
    this.pool = new PagePool(layout.pageCount, layout.pageSize);
    this.prefixes = new PrefixIndex(this.pool);
    const bytes = pageBytes(layout) * layout.pageCount;
    checkBinding(bytes, layout, gpu.maxBindingBytes);
    const usage = BUFFER_USAGE.STORAGE | BUFFER_USAGE.COPY_SRC | BUFFER_USAGE.COPY_DST;
    for (const layer of layers) {
      this.#keys.set(layer, gpu.createBuffer(`layer ${layer} keys`, bytes, "kv", usage));
      this.#values.set(layer, gpu.createBuffer(`layer ${layer} values`, bytes, "kv", usage));
    }
    const residualBytes = residualPageBytes(layout) * layout.pageCount;
    // Where a device cannot bind them, an upgrade starts from the embeddings, and says so.
    this.#recordsResidual = recordsResidual && residualBytes <= gpu.maxBindingBytes;
    this.#residuals = this.#recordsResidual ? gpu.createBuffer(`residuals entering layer ${end}`, residualBytes, "kv", usage) : null;
  }

  keys(layer: number): GpuTensor {
    return present(this.#keys.get(layer), `keys of layer ${layer}`).view();
  }

  values(layer: number): GpuTensor {
    return present(this.#values.get(layer), `values of layer ${layer}`).view();
  }

  /** [page][pageSize][residualStride] f32, or null where none are kept. */
  get residuals(): GpuTensor | null {
    return this.#residuals?.view() ?? null;
  }

  /** Every buffer that holds pages, in a fixed order: of each layer its keys and its values, then the residuals. */
  pagedBuffers(): readonly PagedBuffer[] {
    const bytes = pageBytes(this.layout);
    const ofLayers = this.layers.flatMap((layer) => [
      { name: `keys.${layer}`, buffer: this.keys(layer).buffer, pageBytes: bytes },
      { name: `values.${layer}`, buffer: this.values(layer).buffer, pageBytes: bytes },
    ]);
    const residuals = this.#residuals;
    return residuals ? [...ofLayers, { name: RESIDUALS, buffer: residuals.raw, pageBytes: residualPageBytes(this.layout) }] : ofLayers;
  }

  /** Copies a page, with all that it holds, after what is submitted so far. By way of another buffer: Firefox and Deno copy nothing within one. */
  copyPage(from: PageId, to: PageId): void {
    const paged = this.pagedBuffers();
    if (paged.length === 0) return; // all layers of the group are absent
    const largest = Math.max(...paged.map(({ pageBytes: bytes }) => bytes));
    const between = this.#gpu.createBuffer("page to copy", largest, "scratch", BUFFER_USAGE.COPY_SRC | BUFFER_USAGE.COPY_DST);
    const encoder = this.#gpu.device.createCommandEncoder();
    for (const { buffer, pageBytes: bytes } of paged) {
      encoder.copyBufferToBuffer(buffer, from * bytes, between.raw, 0, bytes);
      encoder.copyBufferToBuffer(between.raw, 0, buffer, to * bytes, bytes);
    }
    this.#gpu.device.queue.submit([encoder.finish()]);
    between.destroy();
  }

  /** Whether steps record the residual that leaves the group. */
  get recordsResidual(): boolean {
    return this.#recordsResidual;
  }

  /** No later upgrade begins at the group's end. What is recorded stays, for sequences that the last one left behind. */
  stopRecording(): void {
    this.#recordsResidual = false;
  }

  /** Frees what was recorded, once no sequence needs it. */
  dropResiduals(): void {
    this.#recordsResidual = false;
    if (this.#residuals) this.#giveUp([this.#residuals]);
    this.#residuals = null;
  }

  /** Keeps the buffers that are there now until the function that it returns is called: a copy that takes several submits reads them. */
  hold(): () => void {
    this.#readers++;
    let holds = true;
    return () => {
      if (!holds) return;
      holds = false;
      this.#readers--;
      this.#giveUp([]);
    };
  }

  destroy(): void {
    this.#giveUp([...this.#keys.values(), ...this.#values.values(), ...(this.#residuals ? [this.#residuals] : [])]);
  }

  #giveUp(buffers: readonly TrackedBuffer[]): void {
    this.#givenUp.push(...buffers);
    if (this.#readers > 0) return;
    for (const buffer of this.#givenUp.splice(0)) buffer.destroy();
  }
}

export class KvCache {
  #groups: readonly KvGroup[];

  constructor(groups: readonly KvGroup[]) {
    this.#groups = groups;
  }

  /** In the order of their layers; together they hold all. */
  get groups(): readonly KvGroup[] {
    return this.#groups;
  }

  groupOf(layer: number): KvGroup {
    return present(
      this.#groups.find(({ first, end }) => layer >= first && layer < end),
      `group of layer ${layer}`,
    );
  }

  /** The index of the group that begins at `layer`; the number of groups where that is past the last. */
  indexFrom(layer: number): number {
    const index = this.#groups.findIndex(({ first }) => first === layer);
    return index < 0 && layer === this.#groups.at(-1)?.end ? this.#groups.length : index;
  }

  /** Puts `groups` in the place of those from `index` on, and gives those back: the caller destroys them. */
  replaceFrom(index: number, groups: readonly KvGroup[]): readonly KvGroup[] {
    const replaced = this.#groups.slice(index);
    assert(replaced[0]?.first === groups[0]?.first && replaced.at(-1)?.end === groups.at(-1)?.end, "groups of other layers");
    this.#groups = [...this.#groups.slice(0, index), ...groups];
    return replaced;
  }

  destroy(): void {
    for (const group of this.#groups) group.destroy();
  }
}

function checkBinding(bytes: number, layout: KvLayout, limit: number): void {
  if (bytes <= limit) return;
  const fitting = Math.floor(limit / pageBytes(layout)) * layout.pageSize;
  throw new LlmError(
    "out-of-memory",
    `A context of ${layout.pageCount * layout.pageSize} tokens needs ${bytes} bytes of K in each layer; this device binds ${limit}. Set contextLength to ${fitting} or less.`,
  );
}
