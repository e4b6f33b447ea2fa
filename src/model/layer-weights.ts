// The weights of one decoder layer on the GPU: immutable, freed as one.
import type { GpuTensor, TrackedBuffer } from "../gpu/buffer";
import type { Gpu } from "../gpu/device";
import { BUFFER_USAGE } from "../gpu/webgpu-flags";
import type { GpuMatrix } from "./gpu-matrix";

/** A vector of f32 on the GPU, owned by the weights that hold it. */
export class GpuVector {
  readonly #gpu: Gpu;
  readonly #buffer: TrackedBuffer;

  /** Allocates; `write` fills it. */
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
  /** LayerNorm's bias; absent for RMSNorm. */
  readonly bias: GpuVector | null;
}

export interface LayerParts {
  readonly attentionNorm: NormWeights;
  /** Rows: all query heads, all key heads, all value heads. */
  readonly qkv: GpuMatrix;
  readonly qkvBias: GpuVector | null;
  readonly attentionOutput: GpuMatrix;
  /** Null where attention and MLP share one norm. */
  readonly mlpNorm: NormWeights | null;
  /** Gate and up rows in turn, or up alone. */
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
