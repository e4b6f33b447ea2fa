// Sampled tokens come back from the GPU through a ring of staging buffers, each mapped while later steps already run.
import { assert, present } from "../assert";
import type { TrackedBuffer } from "../gpu/buffer";
import type { Gpu } from "../gpu/device";
import { BUFFER_USAGE, MAP_MODE } from "../gpu/webgpu-flags";
import { RESULT_BYTES } from "./sampler";

/** The second word of a row's result, as sample-pick numbers them. */
const STEP_ENDS = ["none", "stop-token", "after-stop", "nothing-allowed", "not-a-number"] as const;

/** What a step sampled for one of its rows. */
export interface RowResult {
  readonly token: number;
  /**
   * "none": the run goes on. "stop-token": this token ends it. "after-stop": the run had ended before this step, which computed nothing for it.
   * "nothing-allowed": every token is forbidden. "not-a-number": the logits are NaN.
   */
  readonly end: (typeof STEP_ENDS)[number];
}

export class ResultRing {
  readonly #free: TrackedBuffer[];
  readonly #buffers: readonly TrackedBuffer[];
  readonly #gpu: Gpu;

  /** `depth` steps can be under way at once, of at most `batchSize` rows each. */
  constructor(gpu: Gpu, depth: number, batchSize: number) {
    const usage = BUFFER_USAGE.COPY_DST | BUFFER_USAGE.MAP_READ;
    this.#gpu = gpu;
    this.#buffers = Array.from({ length: depth }, (_, i) => gpu.createBuffer(`result ${i}`, RESULT_BYTES * batchSize, "scratch", usage));
    this.#free = [...this.#buffers];
  }

  get isFull(): boolean {
    return this.#free.length === 0;
  }

  /** Encodes the copy of a step's results, submits the encoder, and resolves with a result for each row. Rejects when the device is lost. */
  async submit(encoder: GPUCommandEncoder, results: GPUBuffer, rows: number): Promise<readonly RowResult[]> {
    const staging = this.#free.shift();
    assert(staging, "no staging buffer is free");
    const bytes = rows * RESULT_BYTES;
    encoder.copyBufferToBuffer(results, 0, staging.raw, 0, bytes);
    this.#gpu.device.queue.submit([encoder.finish()]);
    await this.#gpu.mapped(staging.raw, MAP_MODE.READ, 0, bytes);
    const words = new Uint32Array(staging.raw.getMappedRange(0, bytes).slice(0));
    staging.raw.unmap();
    this.#free.push(staging);
    return Array.from({ length: rows }, (_, row) => {
      const [token = 0, end = 0] = words.subarray(row * (RESULT_BYTES / 4));
      return { token, end: present(STEP_ENDS[end], `end ${end} of a step`) };
    });
  }

  destroy(): void {
    for (const buffer of this.#buffers) buffer.destroy();
  }
}
