// Measures the cuts of decode's products on the weights of the model that is loaded, in turns of the engine so short that who asks next hardly waits.
import { present } from "../assert";
import type { EngineCore } from "../engine/engine-core";
import { LlmError } from "../errors";
import { type BoundKernel, KernelCache } from "../gpu/kernel";
import { PassClock } from "../gpu/pass-clock";
import { readback } from "../gpu/readback";
import { type GemvProduct, gemvCandidates } from "../kernels/gemv-candidates";
import type { GemvTuning } from "../kernels/matmul-vector";
import type { StepShape } from "../kernels/step-shape";
import type { DecodeProduct } from "../model/decode-products";
import { submitPass } from "../steps/stepper";
import { chooseCut, hasLost, ROUNDS } from "./cut-choice";

export interface MeasureOptions {
  /** `gemvCandidates` unless given; the first is the default. */
  readonly candidates?: (product: GemvProduct) => readonly GemvTuning[];
  readonly signal?: AbortSignal;
}

export interface MeasuredCut {
  readonly tuning: GemvTuning;
  /** Milliseconds of a dispatch, of each round until it had lost. */
  readonly times: readonly number[];
}

export interface MeasuredProduct {
  readonly product: GemvProduct;
  /** The cut to take. */
  readonly tuning: GemvTuning;
  readonly speedup: number;
  /** The default first. */
  readonly cuts: readonly MeasuredCut[];
}

const ONE_ROW: StepShape = { rows: 1, positions: 1 };
const BATCH_MS = 4; // forty steps of Chromium's clock; a page is drawn every 16
const MAX_DISPATCHES = 4096;
const MAX_ERROR = 1e-3; // in parts of the largest output; orders of summation differ by less than a millionth

interface Cut {
  readonly tuning: GemvTuning;
  readonly steps: readonly BoundKernel<StepShape>[];
  readonly times: number[];
}

/**
 * One product after the other, a turn of the engine for each batch. Those without candidates are left out.
 *
 * @throws the signal's reason; LlmError "device-lost" | "disposed".
 */
export async function measureProducts(
  core: EngineCore,
  products: readonly DecodeProduct[],
  options: MeasureOptions = {},
): Promise<MeasuredProduct[]> {
  const measure = new GemvMeasure(core, options.signal);
  const candidates = options.candidates ?? ((product) => gemvCandidates(product, core.gpu.features));
  const measured: MeasuredProduct[] = [];
  try {
    for (const each of products) {
      const tunings = candidates(each.product);
      if (tunings.length > 0) measured.push(await measure.product(each, tunings));
    }
  } finally {
    measure.destroy();
  }
  const loss = await core.gpu.lossError(); // times of a lost device are none
  if (loss) throw loss;
  return measured;
}

class GemvMeasure {
  readonly #core: EngineCore;
  readonly #model: EngineCore["model"];
  readonly #kernels: KernelCache; // of its own: few of these are ever used again
  readonly #signal: AbortSignal | undefined;
  /** Null where the device has none: the caller's then, whose wait for the end of a batch is part of it. */
  readonly #clock: PassClock | null;
  /** Goes on from batch to batch, so that no batch finds in a cache what the one before read. */
  #nextMatrix = 0;

  constructor(core: EngineCore, signal: AbortSignal | undefined) {
    this.#core = core;
    this.#model = core.model;
    this.#kernels = new KernelCache(core.gpu);
    this.#signal = signal;
    this.#clock = core.gpu.features.timestamps ? new PassClock(core.gpu, 1) : null;
  }

  destroy(): void {
    this.#clock?.destroy();
  }

  async product(product: DecodeProduct, candidates: readonly GemvTuning[]): Promise<MeasuredProduct> {
    const cuts = await this.#bind(product, candidates);
    const byDefault = present(cuts[0], "the default cut");
    for (const { steps } of cuts) await this.#time(steps, 1); // drivers compile lazily
    const count = await this.#dispatchesOfBatch(byDefault);
    for (let round = 0; round < ROUNDS; round++) {
      for (const cut of cuts) {
        if (cut === byDefault || !hasLost(cut.times, byDefault.times)) cut.times.push(await this.#time(cut.steps, count));
      }
    }
    const { cut, ratio } = chooseCut(cuts.map(({ times }) => times));
    const chosen = present(cuts[cut], "the chosen cut");
    const isTaken = chosen === byDefault || (await this.#agrees(product, byDefault, chosen));
    const tuning = isTaken ? chosen.tuning : byDefault.tuning;
    return {
      ...{ product: product.product, tuning, speedup: isTaken ? 1 / ratio : 1 },
      cuts: cuts.map(({ tuning, times }) => ({ tuning, times })),
    };
  }

  /** Those that compile. */
  async #bind(product: DecodeProduct, candidates: readonly GemvTuning[]): Promise<Cut[]> {
    const cuts: Cut[] = [];
    for (const tuning of candidates) {
      this.#signal?.throwIfAborted();
      try {
        cuts.push({ tuning, steps: await product.bind(this.#kernels, tuning), times: [] });
      } catch (error) {
        if (cuts.length === 0 || !(error instanceof LlmError && error.code === "gpu-error")) throw error;
      }
    }
    return cuts;
  }

  async #dispatchesOfBatch({ steps }: Cut): Promise<number> {
    let count = 1;
    for (;;) {
      const spentMs = count * (await this.#time(steps, count));
      if (spentMs >= (2 / 3) * BATCH_MS || count === MAX_DISPATCHES) return count;
      const growth = Math.min(8, Math.max(2, BATCH_MS / Math.max(spentMs, 0.1)));
      count = Math.min(MAX_DISPATCHES, Math.ceil(count * growth));
    }
  }

  /** Milliseconds of each of so many dispatches, the matrices taken in turn. */
  #time(steps: readonly BoundKernel<StepShape>[], count: number): Promise<number> {
    return this.#turn(async () => {
      const { gpu } = this.#core;
      const { device } = gpu;
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass(this.#clock ? { timestampWrites: this.#clock.writes(0) } : {});
      for (let i = 0; i < count; i++) steps[this.#nextMatrix++ % steps.length]?.encode(pass, ONE_ROW);
      pass.end();
      const commands = encoder.finish();
      const start = performance.now();
      device.queue.submit([commands]);
      await gpu.workDone();
      const wallMs = performance.now() - start;
      const [span] = (await this.#clock?.read(1)) ?? [];
      return (span ? span.end - span.start : wallMs) / count;
    });
  }

  /** Whether both cuts give the same product: what a driver computes wrong may well be fast. */
  async #agrees(product: DecodeProduct, ...cuts: readonly [Cut, Cut]): Promise<boolean> {
    const { x, y } = product;
    const answers = await this.#turn(async () => {
      const { queue } = this.#core.gpu.device;
      const values = Float32Array.from({ length: x.bytes / 4 }, (_, column) => Math.sin(column + 1));
      queue.writeBuffer(x.buffer, x.offset, values);
      const rows: Float32Array[] = [];
      for (const { steps } of cuts) {
        queue.writeBuffer(y.buffer, y.offset, new Float32Array(y.bytes / 4)); // some products are added to it
        submitPass(this.#core.gpu, (pass) => steps[0]?.encode(pass, ONE_ROW));
        rows.push(new Float32Array(await readback(this.#core.gpu, y)));
      }
      return rows;
    });
    const [expected = new Float32Array(), found = new Float32Array()] = answers;
    const limit = MAX_ERROR * expected.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
    return expected.every((value, row) => Math.abs(value - (found[row] ?? Number.NaN)) <= limit);
  }

  /** `act` in a turn of the engine, with the state that one row of decode has. */
  #turn<T>(act: () => Promise<T>): Promise<T> {
    return this.#core.takeTurn(async () => {
      const { gpu, model } = this.#core;
      if (model !== this.#model) throw new LlmError("device-lost", "The device was lost while it was measured.");
      this.#signal?.throwIfAborted();
      gpu.device.queue.writeBuffer(model.context.lane.buffer("state"), 0, Uint32Array.of(0, 1, 0, 0));
      return act();
    }, this.#signal);
  }
}
