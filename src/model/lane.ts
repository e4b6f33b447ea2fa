// What one walk of tokens through the layers has for itself: its place in the sequence, its ids, its residual, its page tables. Prefill and
// decode share one lane; what rebuilds K/V behind them has another, so that neither disturbs the other between two submits.
import { present } from "../assert";
import { alignBinding, type GpuTensor, type TrackedBuffer } from "../gpu/buffer";
import type { Gpu } from "../gpu/device";
import { BUFFER_USAGE } from "../gpu/webgpu-flags";
import type { ModelConfig } from "../weights/model-config";
import { activationStrides, type ScratchLayout } from "./scratch";

const NAMES = ["state", "ids", "x", "table"] as const;
type LaneName = (typeof NAMES)[number];

/** `state`: shaders/include/state.wgsl. `ids`: u32 [rows]. `x`: the residual, f32 [rows, hidden]. `table`: a row of page ids for each layer. */
export class Lane {
  /** Bytes between the page-table rows of two layers. */
  readonly tableRowBytes: number;
  readonly #buffers = new Map<LaneName, TrackedBuffer>();

  constructor(gpu: Gpu, label: string, config: ModelConfig, { chunkRows, contextLength, pageSize }: ScratchLayout) {
    this.tableRowBytes = alignBinding(Math.ceil(contextLength / pageSize) * 4);
    const bytes: Record<LaneName, number> = {
      state: 16,
      ids: chunkRows * 4,
      x: chunkRows * activationStrides(config).hidden * 4,
      table: this.tableRowBytes * config.layerCount,
    };
    const usage = BUFFER_USAGE.STORAGE | BUFFER_USAGE.COPY_SRC | BUFFER_USAGE.COPY_DST;
    for (const name of NAMES) this.#buffers.set(name, gpu.createBuffer(`${label} ${name}`, bytes[name], "scratch", usage));
  }

  tensor(name: LaneName): GpuTensor {
    return present(this.#buffers.get(name), name).view();
  }

  buffer(name: LaneName): GPUBuffer {
    return this.tensor(name).buffer;
  }

  /** The page-table row of a layer. */
  table(layer: number): GpuTensor {
    return { buffer: this.buffer("table"), offset: layer * this.tableRowBytes, bytes: this.tableRowBytes };
  }

  destroy(): void {
    for (const buffer of this.#buffers.values()) buffer.destroy();
  }
}
