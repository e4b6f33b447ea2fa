// Tokens come back from the GPU through a ring of staging buffers, each mapped while later steps already run.
import { assert, present } from "../assert";
import type { TrackedBuffer } from "../gpu/buffer";
import type { Gpu } from "../gpu/device";
import { BUFFER_USAGE, MAP_MODE } from "../gpu/webgpu-flags";
import { RESULT_BYTES } from "./sampler";

/** `result[1]` as sample-pick writes it, by its number. */
const STEP_ENDS = ["none", "stop-token", "after-stop", "nothing-allowed"] as const;

export interface StepResult {
  readonly token: number;
  /**
   * Whether the run goes on ("none"), ends with this token ("stop-token"), had ended before, so that the step has no token ("after-stop"),
   * or cannot go on since every token is forbidden ("nothing-allowed").
   */
  readonly end: (typeof STEP_ENDS)[number];
  /** What was known of the step when it was submitted. */
  readonly note: StepNote;
}

export interface StepNote {
  /** Index of the stage that computed it. */
  readonly stage: number;
  /** Slices of a rebuild that went before it. */
  readonly slices: number;
}

export class ResultRing {
  readonly #gpu: Gpu;
  readonly #slots: readonly TrackedBuffer[];
  #next = 0;
  readonly #pending: { readonly slot: TrackedBuffer; readonly mapped: Promise<void>; readonly note: StepNote }[] = [];

  constructor(gpu: Gpu, depth: number) {
    this.#gpu = gpu;
    const usage = BUFFER_USAGE.COPY_DST | BUFFER_USAGE.MAP_READ;
    this.#slots = Array.from({ length: depth }, (_, i) => gpu.createBuffer(`result ${i}`, RESULT_BYTES, "scratch", usage));
  }

  /** Steps submitted whose result has not been taken. */
  get pendingCount(): number {
    return this.#pending.length;
  }

  get isFull(): boolean {
    return this.#pending.length === this.#slots.length;
  }

  /** Encodes the copy of a step's result; `submit` must submit that encoder. */
  copyAndSubmit(encoder: GPUCommandEncoder, result: GPUBuffer, note: StepNote, submit: () => void): void {
    assert(!this.isFull, "no staging buffer is free");
    const slot = present(this.#slots[this.#next], "staging buffer");
    this.#next = (this.#next + 1) % this.#slots.length;
    encoder.copyBufferToBuffer(result, 0, slot.raw, 0, RESULT_BYTES);
    submit();
    const mapped = this.#gpu.mapped(slot.raw, MAP_MODE.READ);
    mapped.catch(() => undefined); // taken, or dropped by drain, later; a lost device rejects it meanwhile
    this.#pending.push({ slot, mapped, note });
  }

  /** The oldest result, when it comes. */
  async take(): Promise<StepResult> {
    const { slot, mapped, note } = present(this.#pending.shift(), "pending result");
    await mapped;
    const [token = 0, end = 0] = new Uint32Array(slot.raw.getMappedRange());
    slot.raw.unmap();
    return { token, end: present(STEP_ENDS[end], `end ${end} of a step`), note };
  }

  /** Waits until every submitted step is done, and drops the results. */
  async drain(): Promise<void> {
    while (this.#pending.length > 0) await this.take();
  }

  destroy(): void {
    for (const slot of this.#slots) slot.destroy();
  }
}
