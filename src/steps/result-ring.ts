// Tokens come back from the GPU through a ring of staging buffers, each mapped while later steps already run.
import { assert, present } from "../assert";
import type { TrackedBuffer } from "../gpu/buffer";
import type { Gpu } from "../gpu/device";
import { RESULT_BYTES } from "./sampler";

/** `result[1]` as sample-pick writes it, by its number. */
const STEP_ENDS = ["none", "stop-token", "after-stop", "nothing-allowed", "not-a-number"] as const;

export interface RowResult {
  readonly token: number;
  /**
   * Whether the run goes on ("none"), ends with this token ("stop-token"), had ended before, so that the step has no token ("after-stop"),
   * or cannot go on since every token is forbidden ("nothing-allowed") or a logit is not a finite number ("not-a-number").
   */
  readonly end: (typeof STEP_ENDS)[number];
}

export interface StepResult {
  /** Of each sampled row, in the order of the step's rows. */
  readonly rows: readonly RowResult[];
  /** What was known of the step when it was submitted. */
  readonly note: StepNote;
}

export interface StepNote {
  /** Index of the stage that computed it. */
  readonly stage: number;
  /** Slices of a rebuild that went before it. */
  readonly slices: number;
}

export interface SampledStep {
  /** The sampler's. */
  readonly result: GPUBuffer;
  readonly rows: number;
  readonly note: StepNote;
}

interface PendingResult {
  readonly slot: TrackedBuffer;
  readonly rows: number;
  readonly mapped: Promise<undefined>;
  readonly note: StepNote;
}

export class ResultRing {
  readonly #slots: readonly TrackedBuffer[];
  #next = 0;
  readonly #pending: PendingResult[] = [];

  /** Of up to `depth` steps that sample up to `maxRows` rows each. */
  constructor(gpu: Gpu, depth: number, maxRows: number) {
    const usage = GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ;
    this.#slots = Array.from({ length: depth }, (_, i) => gpu.createBuffer(`result ${i}`, maxRows * RESULT_BYTES, "scratch", usage));
  }

  /** Steps submitted whose result has not been taken. */
  get pendingCount(): number {
    return this.#pending.length;
  }

  get isFull(): boolean {
    return this.#pending.length === this.#slots.length;
  }

  /** Encodes the copy of the results of a step's first `rows` sampled rows; `submit` must submit that encoder. */
  copyAndSubmit(encoder: GPUCommandEncoder, { result, rows, note }: SampledStep, submit: () => void): void {
    assert(!this.isFull, "no staging buffer is free");
    const slot = present(this.#slots[this.#next], "staging buffer");
    this.#next = (this.#next + 1) % this.#slots.length;
    encoder.copyBufferToBuffer(result, 0, slot.raw, 0, rows * RESULT_BYTES);
    submit();
    const mapped = slot.raw.mapAsync(GPUMapMode.READ);
    mapped.catch(() => undefined); // taken, or dropped by drain, later; a lost device rejects it meanwhile
    this.#pending.push({ slot, rows, mapped, note });
  }

  /** The oldest result, when it comes. */
  async take(): Promise<StepResult> {
    const { slot, rows, mapped, note } = present(this.#pending.shift(), "pending result");
    await mapped;
    const words = new Uint32Array(slot.raw.getMappedRange(0, rows * RESULT_BYTES)).slice();
    slot.raw.unmap();
    return { rows: Array.from({ length: rows }, (_, row) => rowResult(words.subarray((row * RESULT_BYTES) / 4))), note };
  }

  /** Waits until every submitted step is done, and drops the results. */
  async drain(): Promise<void> {
    while (this.#pending.length > 0) await this.take();
  }

  destroy(): void {
    for (const slot of this.#slots) slot.destroy();
  }
}

function rowResult([token = 0, end = 0]: Uint32Array): RowResult {
  return { token, end: present(STEP_ENDS[end], `end ${end} of a step`) };
}
