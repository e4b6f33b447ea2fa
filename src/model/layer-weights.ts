// The weights of one decoder layer on the GPU. They are immutable and freed together.
import type { GpuTensor, TrackedBuffer } from "../gpu/buffer";
import type { Gpu } from "../gpu/device";
import { BUFFER_USAGE } from "../gpu/webgpu-flags";
import type { GpuMatrix } from "./gpu-matrix";

/** A vector of f32 on the GPU. The weights that hold it own it. */
export class GpuVector {
  readonly #gpu: Gpu;
  readonly #buffer: TrackedBuffer;

  /** Allocates the vector; `write` fills it. */
  constructor(gpu: Gpu, label: string, length: number) {
    this.#gpu = gpu;
    const usage = BUFFER_USAGE.STORAGE | BUFFER_USAGE.COPY_DST | BUFFER_USAGE.COPY_SRC;
    this.#buffer = gpu.createBuffer(label, length * 4, "weights", usage);
  }

  write(values: Float32Array<ArrayBuffer>): void {
    this.#gpu.device.queue.writeBuffer(this.#buffer.raw, 0, values);
  }

  get tensor(): GpuTensor {
    return this.#buffer.view();
  }

  destroy(): void {
    this.#buffer.destroy();
  }
}

export interface NormWeights {
  readonly weight: GpuVector;
  /** The bias of a LayerNorm; absent for RMSNorm. */
  readonly bias: GpuVector | null;
}

export interface LayerParts {
  readonly attentionNorm: NormWeights;
  /** Rows: all query heads, all key heads, all value heads. */
  readonly qkv: GpuMatrix;
  readonly qkvBias: GpuVector | null;
  readonly attentionOutput: GpuMatrix;
  /** Null if attention and MLP share one norm. */
  readonly mlpNorm: NormWeights | null;
  /** Gate and up rows interleaved, or only up rows. */
  readonly up: GpuMatrix;
  readonly down: GpuMatrix;
}

export class LayerWeights {
  readonly parts: LayerParts;

  constructor(parts: LayerParts) {
    this.parts = parts;
  }

  destroy(): void {
    const { attentionNorm, mlpNorm, qkvBias, ...matrices } = this.parts;
    for (const norm of [attentionNorm, mlpNorm]) {
      norm?.weight.destroy();
      norm?.bias?.destroy();
    }
    qkvBias?.destroy();
    for (const matrix of Object.values(matrices)) matrix.destroy();
  }
}
