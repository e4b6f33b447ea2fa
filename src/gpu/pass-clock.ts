// How long compute passes take on the GPU, by its own clock (`timestamp-query`; Chromium rounds it to 0.1 ms).
import type { Gpu } from "./device";
import { BUFFER_USAGE, MAP_MODE } from "./webgpu-flags";

/** For devices whose features have `timestamps`. */
export class PassClock {
  readonly #gpu: Gpu;
  readonly #queries: GPUQuerySet;
  readonly #resolved: GPUBuffer;
  readonly #staging: GPUBuffer;

  constructor(gpu: Gpu, passes: number) {
    const { device } = gpu;
    this.#gpu = gpu;
    this.#queries = device.createQuerySet({ type: "timestamp", count: 2 * passes });
    this.#resolved = device.createBuffer({ size: 16 * passes, usage: BUFFER_USAGE.QUERY_RESOLVE | BUFFER_USAGE.COPY_SRC });
    this.#staging = device.createBuffer({ size: 16 * passes, usage: BUFFER_USAGE.COPY_DST | BUFFER_USAGE.MAP_READ });
  }

  writes(pass: number): GPUComputePassTimestampWrites {
    return { querySet: this.#queries, beginningOfPassWriteIndex: 2 * pass, endOfPassWriteIndex: 2 * pass + 1 };
  }

  /** Of the first `passes` passes, in milliseconds of the GPU's own clock. */
  async read(passes: number): Promise<{ readonly start: number; readonly end: number }[]> {
    const { device } = this.#gpu;
    const encoder = device.createCommandEncoder();
    encoder.resolveQuerySet(this.#queries, 0, 2 * passes, this.#resolved, 0);
    encoder.copyBufferToBuffer(this.#resolved, 0, this.#staging, 0, 16 * passes);
    device.queue.submit([encoder.finish()]);
    await this.#gpu.mapped(this.#staging, MAP_MODE.READ, 0, 16 * passes);
    const ns = new BigUint64Array(this.#staging.getMappedRange(0, 16 * passes).slice(0));
    this.#staging.unmap();
    const ms = (index: number) => Number((ns[index] ?? 0n) - (ns[0] ?? 0n)) / 1e6;
    return Array.from({ length: passes }, (_, pass) => ({ start: ms(2 * pass), end: ms(2 * pass + 1) }));
  }

  destroy(): void {
    this.#queries.destroy();
    this.#resolved.destroy();
    this.#staging.destroy();
  }
}
