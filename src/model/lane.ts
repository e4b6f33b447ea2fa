// The buffers of one walk of tokens through the layers: the rows of its step, their residual, page tables. Prefill and decode share one lane. A rebuild of
// K/V beside them has another, so that neither disturbs the other between two submits.
import { present } from "../assert";
import { alignBinding, type GpuTensor, type TrackedBuffer } from "../gpu/buffer";
import type { Gpu } from "../gpu/device";
import { BUFFER_USAGE } from "../gpu/webgpu-flags";
import { ROW_BYTES, stateBytes } from "../kernels/step-state";
import type { ModelConfig } from "../weights/model-config";
import { activationStrides, type ScratchLayout } from "./scratch";

const NAMES = ["state", "x", "table", "seats", "counts"] as const;
type LaneName = (typeof NAMES)[number];

export interface LaneSize {
  /** Number of sequences that have page tables at the same time. */
  readonly slots: number;
  /** The largest number of rows in a step. */
  readonly rows: number;
}

/**
 * `state`: shaders/include/state.wgsl. `x`: the residual, f32 [rows, hidden]. `table`: page ids, u32 [slot][layer][page]. `seats`: [slots], holds the rows
 * of decoding sequences while a prefill chunk uses the state. `counts`: 0, 1, 2, … slots. A step's row count is copied from `counts`, so that it changes
 * in the order of commands.
 */
export class Lane {
  readonly slots: number;
  readonly rows: number;
  /** Bytes between the page-table rows of two layers. */
  readonly tableRowBytes: number;
  /** Bytes between the page tables of two slots. */
  readonly tableSlotBytes: number;
  readonly #buffers = new Map<LaneName, TrackedBuffer>();

  constructor(gpu: Gpu, label: string, config: ModelConfig, layout: ScratchLayout, { slots, rows }: LaneSize) {
    this.slots = slots;
    this.rows = rows;
    this.tableRowBytes = tableRowBytes(layout);
    this.tableSlotBytes = this.tableRowBytes * config.layerCount;
    const counts = Uint32Array.from({ length: slots + 1 }, (_, count) => count);
    const bytes: Record<LaneName, number> = {
      state: stateBytes(rows),
      x: rows * activationStrides(config).hidden * 4,
      table: this.tableSlotBytes * slots,
      seats: slots * ROW_BYTES,
      counts: counts.byteLength,
    };
    const usage = BUFFER_USAGE.STORAGE | BUFFER_USAGE.COPY_SRC | BUFFER_USAGE.COPY_DST;
    for (const name of NAMES) this.#buffers.set(name, gpu.createBuffer(`${label} ${name}`, bytes[name], "scratch", usage));
    gpu.device.queue.writeBuffer(this.buffer("counts"), 0, counts);
  }

  tensor(name: LaneName): GpuTensor {
    return present(this.#buffers.get(name), name).view();
  }

  buffer(name: LaneName): GPUBuffer {
    return this.tensor(name).buffer;
  }

  /** The page tables of a layer, `tableStride` words from slot to slot. */
  table(layer: number): GpuTensor {
    const { buffer, bytes } = this.tensor("table");
    const offset = layer * this.tableRowBytes;
    return { buffer, offset, bytes: bytes - offset };
  }

  destroy(): void {
    for (const buffer of this.#buffers.values()) buffer.destroy();
  }
}

function tableRowBytes({ contextLength, pageSize }: ScratchLayout): number {
  return alignBinding(Math.ceil(contextLength / pageSize) * 4);
}

/** Words between the page tables of two slots, on any lane of a model. */
export function tableStride({ layerCount }: ModelConfig, layout: ScratchLayout): number {
  return (tableRowBytes(layout) / 4) * layerCount;
}
