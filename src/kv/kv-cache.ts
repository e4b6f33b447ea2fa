// The K and V buffers of every layer, paged: [page][kvHead][position in page][headDim]. One buffer for K and one for V a
// layer, so that no binding outgrows the device's limit and a layer's cache can be copied or dropped alone.

import { present } from "../assert";
import { LlmError } from "../errors";
import type { GpuTensor, TrackedBuffer } from "../gpu/buffer";
import type { Gpu } from "../gpu/device";

/** f16 halves the bytes and needs no device feature: values are packed two to a u32. */
export type KvFormat = "f16" | "f32";

export interface KvLayout {
  readonly layerCount: number;
  readonly kvHeadCount: number;
  readonly headDim: number;
  readonly pageSize: number;
  readonly pageCount: number;
  readonly format: KvFormat;
}

/** Bytes of one page of K (or of V) in one layer. */
export function pageBytes(layout: Pick<KvLayout, "kvHeadCount" | "headDim" | "pageSize" | "format">): number {
  return layout.kvHeadCount * layout.pageSize * layout.headDim * (layout.format === "f16" ? 2 : 4);
}

export class KvCache {
  readonly layout: KvLayout;
  readonly #keys: TrackedBuffer[] = [];
  readonly #values: TrackedBuffer[] = [];

  /** @throws LlmError "out-of-memory" when a layer's K or V is larger than the device can bind. */
  constructor(gpu: Gpu, layout: KvLayout) {
    this.layout = layout;
    const bytes = pageBytes(layout) * layout.pageCount;
    const limit = gpu.maxBindingBytes;
    if (bytes > limit) {
      const fitting = Math.floor(limit / pageBytes(layout)) * layout.pageSize;
      throw new LlmError(
        "out-of-memory",
        `A context of ${layout.pageCount * layout.pageSize} tokens needs ${bytes} bytes of K in each layer; this device binds ${limit}. Set contextLength to ${fitting} or less.`,
      );
    }
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    for (let layer = 0; layer < layout.layerCount; layer++) {
      this.#keys.push(gpu.createBuffer(`layer ${layer} keys`, bytes, "kv", usage));
      this.#values.push(gpu.createBuffer(`layer ${layer} values`, bytes, "kv", usage));
    }
  }

  keys(layer: number): GpuTensor {
    return present(this.#keys[layer], `keys of layer ${layer}`).view();
  }

  values(layer: number): GpuTensor {
    return present(this.#values[layer], `values of layer ${layer}`).view();
  }

  destroy(): void {
    for (const buffer of [...this.#keys, ...this.#values]) buffer.destroy();
  }
}
