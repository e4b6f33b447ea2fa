// Benchmarks GEMV parameters on the weights of the loaded model, in slices short enough that a new request is barely delayed.
import { present } from "../assert";
import { LlmError } from "../errors";
import type { Gpu } from "../gpu/device";
import { KernelCache } from "../gpu/kernel";
import { PassClock } from "../gpu/pass-clock";
import { readback } from "../gpu/readback";
import { type GemvProduct, gemvCandidates } from "../kernels/gemv-candidates";
import type { GemvTuning } from "../kernels/matmul-vector";
import type { StepShape } from "../kernels/step-shape";
import { encodeState } from "../kernels/step-state";
import type { DecodeProduct } from "../model/decode-products";
import type { Model } from "../model/model";
import type { Step } from "../model/vector-step";
import { cannotWin, fastestCandidate, ROUNDS } from "./fastest-candidate";

/** What measuring needs of the engine. */
export interface TuningHost {
  /** The device and the model that answer now: others after a lost device. */
  readonly gpu: Gpu;
  readonly model: Model;
  /**
   * Runs `act` while nothing else runs.
   *
   * @throws the signal's reason; LlmError "device-lost" | "disposed"
   */
  alone<T>(act: () => Promise<T>, signal?: AbortSignal): Promise<T>;
}

export interface MeasureOptions {
  /** Defaults to `gemvCandidates`. The first candidate is the default. */
  readonly candidates?: (product: GemvProduct) => readonly GemvTuning[];
  readonly signal?: AbortSignal;
}

export interface MeasuredCandidate {
  readonly tuning: GemvTuning;
  /** Milliseconds a dispatch, by round. A candidate that cannot win any more has fewer rounds. */
  readonly times: readonly number[];
}

export interface MeasuredProduct {
  readonly product: GemvProduct;
  /** The fastest candidate that computes what the default computes. */
  readonly tuning: GemvTuning;
  /** Over the default; 1 if the default won. */
  readonly speedup: number;
  /** The default first. Candidates that did not compile are missing. */
  readonly candidates: readonly MeasuredCandidate[];
}

const ONE_ROW: StepShape = { rows: 1, positions: 1 };
const BATCH_MS = 4; // 40 times the resolution of Chromium's clock, and a quarter of a frame
const MAX_DISPATCHES = 4096;
const MAX_ERROR = 1e-3; // relative to the largest output; another order of summation changes less than 1e-6

/** A candidate while it is measured. */
interface Candidate {
  readonly tuning: GemvTuning;
  /** One dispatch for each matrix of the product. */
  readonly dispatches: readonly Step[];
  readonly times: number[];
}

/**
 * Measures one product after the other. Each batch waits for the host on its own, so requests go between batches. Products without candidates are
 * left out.
 *
 * @throws the signal's reason; LlmError "device-lost" | "disposed"
 */
export async function measureProducts(
  host: TuningHost,
  products: readonly DecodeProduct[],
  options: MeasureOptions = {},
): Promise<MeasuredProduct[]> {
  const { gpu } = host;
  const measure = new GemvMeasure(host, options.signal);
  const candidates = options.candidates ?? ((product) => gemvCandidates(product, gpu.features));
  const measured: MeasuredProduct[] = [];
  try {
    for (const each of products) {
      const tunings = candidates(each.product);
      if (tunings.length > 0) measured.push(await measure.product(each, tunings));
    }
  } finally {
    measure.destroy();
  }
  const loss = await gpu.lossError(); // operations on a lost device take no time and do not fail
  if (loss) throw loss;
  return measured;
}

class GemvMeasure {
  readonly #host: TuningHost;
  readonly #gpu: Gpu;
  readonly #model: Model;
  readonly #kernels: KernelCache; // not the engine's: most of these kernels are never used again
  readonly #signal: AbortSignal | undefined;
  /** Null without timestamps: the wall time of a batch counts then, the wait for its end included. */
  readonly #clock: PassClock | null;
  /** Batches continue where the last one stopped, so that none finds its matrices in a cache. */
  #nextMatrix = 0;

  constructor(host: TuningHost, signal: AbortSignal | undefined) {
    this.#host = host;
    this.#gpu = host.gpu;
    this.#model = host.model;
    this.#kernels = new KernelCache(host.gpu);
    this.#signal = signal;
    this.#clock = host.gpu.features.timestamps ? new PassClock(host.gpu, 1) : null;
  }

  destroy(): void {
    this.#clock?.destroy();
  }

  async product(product: DecodeProduct, tunings: readonly GemvTuning[]): Promise<MeasuredProduct> {
    const candidates = await this.#compile(product, tunings);
    const byDefault = present(candidates[0], "the default candidate");
    for (const { dispatches } of candidates) await this.#time(dispatches, 1); // warm-up: drivers compile at the first dispatch
    const count = await this.#batchSize(byDefault);
    for (let round = 0; round < ROUNDS; round++) {
      for (const candidate of candidates) {
        if (candidate !== byDefault && cannotWin(candidate.times, byDefault.times)) continue;
        candidate.times.push(await this.#time(candidate.dispatches, count));
      }
    }
    const { index, ratio } = fastestCandidate(candidates.map(({ times }) => times));
    const fastest = present(candidates[index], "the fastest candidate");
    const isRight = fastest === byDefault || (await this.#agree(product, byDefault, fastest));
    return {
      product: product.product,
      tuning: isRight ? fastest.tuning : byDefault.tuning,
      speedup: isRight ? 1 / ratio : 1,
      candidates: candidates.map(({ tuning, times }) => ({ tuning, times })),
    };
  }

  /** Leaves out candidates that the driver cannot compile. @throws if the default is one of them */
  async #compile(product: DecodeProduct, tunings: readonly GemvTuning[]): Promise<Candidate[]> {
    const candidates: Candidate[] = [];
    for (const tuning of tunings) {
      this.#signal?.throwIfAborted();
      try {
        candidates.push({ tuning, dispatches: await product.bind(this.#kernels, tuning), times: [] });
      } catch (error) {
        if (candidates.length === 0 || !(error instanceof LlmError && error.code === "gpu-error")) throw error;
      }
    }
    return candidates;
  }

  /** Dispatches that take about `BATCH_MS`. */
  async #batchSize({ dispatches }: Candidate): Promise<number> {
    let count = 1;
    for (;;) {
      const batchMs = count * (await this.#time(dispatches, count));
      if (batchMs >= (2 / 3) * BATCH_MS || count === MAX_DISPATCHES) return count;
      const growth = Math.min(8, Math.max(2, BATCH_MS / Math.max(batchMs, 0.1)));
      count = Math.min(MAX_DISPATCHES, Math.ceil(count * growth));
    }
  }

  /** Milliseconds a dispatch, over a batch of `count` that goes round the matrices. */
  #time(dispatches: readonly Step[], count: number): Promise<number> {
    return this.#alone(async () => {
      const { queue } = this.#gpu.device;
      const commands = this.#encode((pass) => {
        for (let i = 0; i < count; i++) dispatches[this.#nextMatrix++ % dispatches.length]?.encode(pass, ONE_ROW);
      });
      const start = performance.now();
      queue.submit([commands]);
      await this.#gpu.workDone();
      const wallMs = performance.now() - start;
      const [span] = (await this.#clock?.read(1)) ?? [];
      return (span ? span.end - span.start : wallMs) / count;
    });
  }

  /** Whether both compute the same product. A driver that skips work would win otherwise. */
  async #agree(product: DecodeProduct, byDefault: Candidate, fastest: Candidate): Promise<boolean> {
    const { x, y } = product;
    const outputs = ({ dispatches }: Candidate) =>
      this.#alone(async () => {
        const { queue } = this.#gpu.device;
        const values = Float32Array.from({ length: x.bytes / 4 }, (_, column) => Math.sin(column + 1));
        queue.writeBuffer(x.buffer, x.offset, values);
        queue.writeBuffer(y.buffer, y.offset, new Float32Array(y.bytes / 4)); // the epilogue "add" reads it
        queue.submit([this.#encode((pass) => dispatches[0]?.encode(pass, ONE_ROW))]);
        return new Float32Array(await readback(this.#gpu, y));
      });
    const expected = await outputs(byDefault);
    const found = await outputs(fastest);
    const limit = MAX_ERROR * expected.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
    return expected.every((value, row) => Math.abs(value - (found[row] ?? Number.NaN)) <= limit);
  }

  #encode(encodePass: (pass: GPUComputePassEncoder) => void): GPUCommandBuffer {
    const encoder = this.#gpu.device.createCommandEncoder();
    const pass = encoder.beginComputePass(this.#clock ? { timestampWrites: this.#clock.writes(0) } : {});
    encodePass(pass);
    pass.end();
    return encoder.finish();
  }

  /** Runs `act` while the engine is idle, with the lane's state set for one row of decode. */
  #alone<T>(act: () => Promise<T>): Promise<T> {
    return this.#host.alone(async () => {
      if (this.#host.model !== this.#model)
        throw new LlmError("device-lost", "The device was lost while GEMV parameters were benchmarked.");
      this.#signal?.throwIfAborted();
      this.#gpu.device.queue.writeBuffer(this.#model.context.lane.buffer("state"), 0, encodeState([{}]));
      return act();
    }, this.#signal);
  }
}
