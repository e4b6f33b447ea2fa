// GPU buffers that are counted while they live, and views of them that kernels bind.

export type GpuMemoryCategory = "weights" | "kv" | "scratch";

/** A range of a buffer, as a kernel binds it. Does not own the buffer. */
export interface GpuTensor {
  readonly buffer: GPUBuffer;
  /** Bytes; a multiple of 256, WebGPU's alignment of storage bindings. */
  readonly offset: number;
  readonly bytes: number;
}

export class TrackedBuffer {
  readonly raw: GPUBuffer;
  readonly label: string;
  readonly category: GpuMemoryCategory;
  readonly bytes: number;
  #release: (() => void) | null;

  constructor(raw: GPUBuffer, label: string, category: GpuMemoryCategory, release: () => void) {
    this.raw = raw;
    this.label = label;
    this.category = category;
    this.bytes = raw.size;
    this.#release = release;
  }

  /** The whole buffer, or `bytes` of it from `offset`. */
  view(offset = 0, bytes = this.bytes - offset): GpuTensor {
    return { buffer: this.raw, offset, bytes };
  }

  /** Twice is once. Work already submitted still sees the buffer. */
  destroy(): void {
    this.#release?.();
    this.#release = null;
    this.raw.destroy();
  }
}

/** Storage bindings start at multiples of this many bytes, in every device's default limits. */
export const BINDING_ALIGNMENT = 256;

export function alignBinding(bytes: number): number {
  return Math.ceil(bytes / BINDING_ALIGNMENT) * BINDING_ALIGNMENT;
}
