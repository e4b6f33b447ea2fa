// A model that answers: its weights on the GPU, the conversations whose K/V it holds, one run at a time.
import { type LinkedAbort, linkAbort } from "../bytes/abort";
import { LlmError } from "../errors";
import { deviceLostError, type Gpu } from "../gpu/device";
import { KernelCache } from "../gpu/kernel";
import { KvCache } from "../kv/kv-cache";
import { PagePool } from "../kv/page-pool";
import { Model } from "../model/model";
import type { ProgramContext } from "../model/program-context";
import { Scratch } from "../model/scratch";
import type { ModelConfig } from "../weights/model-config";
import { type EngineOptions, resolveEngineOptions } from "./engine-options";
import { type Evaluation, type EvaluationRequest, evaluate } from "./evaluate";
import { type GenerationRequest, type GenerationResult, runGeneration } from "./generation";
import { RunQueue } from "./run-queue";
import { Sampler } from "./sampler";
import { Sequence } from "./sequence";
import { Stepper } from "./stepper";

export interface EngineMemory {
  /** Bytes on the GPU. */
  readonly weights: number;
  readonly kv: number;
  readonly scratch: number;
  readonly total: number;
  readonly bufferCount: number;
}

/** Prefills what is not cached of a sequence and decodes on. */
export type Generate = (request: GenerationRequest) => Promise<GenerationResult>;

interface EngineParts {
  readonly gpu: Gpu;
  readonly config: ModelConfig;
  readonly model: Model;
  readonly sampler: Sampler;
  readonly stepper: Stepper;
  readonly pool: PagePool;
  readonly contextLength: number;
}

export class EngineCore {
  readonly config: ModelConfig;
  readonly contextLength: number;
  readonly #parts: EngineParts;
  readonly #queue = new RunQueue();
  /** Those that may hold pages. */
  readonly #sequences = new Set<Sequence>();
  #clock = 0;
  readonly #runs = new Set<LinkedAbort>();
  /** Why no run can be: the engine was disposed of, or its device lost. */
  #end: LlmError | null = null;

  private constructor(parts: EngineParts) {
    this.#parts = parts;
    this.config = parts.config;
    this.contextLength = parts.contextLength;
    void parts.gpu.lost.then((info) => this.#endRuns(deviceLostError(info)));
  }

  /**
   * Allocates cache and scratch and compiles the sampler. The engine owns `gpu` from here on, also when this throws.
   *
   * @throws LlmError "out-of-memory" | "gpu-error" | "bad-request"
   */
  static async create(gpu: Gpu, config: ModelConfig, options: EngineOptions = {}): Promise<EngineCore> {
    try {
      const { contextLength, poolLength, pageSize, chunkRows, stepsAhead, kvFormat } = resolveEngineOptions(options, config);
      const pageCount = Math.ceil(poolLength / pageSize);
      const { layerCount, kvHeadCount, headDim } = config;
      const { scratch, cache } = await gpu.checked(
        "the K/V pool and activations",
        () => ({
          scratch: new Scratch(gpu, config, { chunkRows, contextLength, pageSize }),
          cache: new KvCache(gpu, { layerCount, kvHeadCount, headDim, pageSize, pageCount, format: kvFormat }),
        }),
        () => undefined, // gpu.dispose below frees them
      );
      const context: ProgramContext = {
        gpu,
        kernels: KernelCache.of(gpu),
        config,
        scratch,
        cache,
        subgroups: gpu.features.subgroups !== null,
        math: gpu.features.f16 ? "f16" : "f32",
      };
      const model = new Model(context);
      const sampler = await Sampler.create(context);
      const stepper = await gpu.checked(
        "results on their way back",
        () => new Stepper(model, sampler, { chunkRows, stepsAhead }),
        (made) => made.destroy(),
      );
      return new EngineCore({ gpu, config, model, sampler, stepper, pool: new PagePool(pageCount, pageSize), contextLength });
    } catch (error) {
      gpu.dispose();
      throw error;
    }
  }

  get model(): Model {
    return this.#parts.model;
  }

  get gpu(): Gpu {
    return this.#parts.gpu;
  }

  createSequence(): Sequence {
    if (this.#end) throw this.#end;
    return new Sequence(this.#parts.pool);
  }

  /** Frees the sequence's pages, when the run that may use them is over. */
  async releaseSequence(sequence: Sequence): Promise<void> {
    await this.#queue.run(async () => this.#release(sequence));
  }

  /**
   * Runs `turn` when those asked for before are over; it sees what they left, and until it ends no other run begins. What
   * it is given continues a sequence.
   *
   * @throws LlmError "device-lost" | "disposed"; the signal's reason.
   */
  takeTurn<T>(turn: (generate: Generate) => Promise<T>, signal?: AbortSignal): Promise<T> {
    return this.#run((ending) => {
      const reserve = (sequence: Sequence, positions: number) => this.#reserve(sequence, positions);
      const limits = { contextLength: this.contextLength, reserve };
      return turn((request) => {
        this.#sequences.add(request.sequence);
        request.sequence.lastUsed = ++this.#clock;
        return runGeneration(this.#parts.stepper, request, limits, ending);
      });
    }, signal);
  }

  /** The logits of every position of a list of ids. For evaluation and tests; it leaves no K/V behind. */
  evaluate(request: EvaluationRequest): Promise<Evaluation> {
    return this.#run(async (signal) => {
      const sequence = this.createSequence();
      const reserve = (positions: number) => this.#reserve(sequence, positions);
      try {
        return await evaluate(this.#parts.stepper, sequence, { ...request, signal }, reserve, this.contextLength);
      } finally {
        this.#release(sequence);
      }
    }, request.signal);
  }

  memory(): EngineMemory {
    return this.#parts.gpu.memory();
  }

  /** Frees everything on the GPU. Runs under way fail with "disposed". */
  dispose(): void {
    this.#endRuns(new LlmError("disposed", "This engine was disposed. Load it again with loadEngine."));
    this.#parts.gpu.dispose();
  }

  /** `task` gets a signal that aborts as the caller's does, and when the engine's end has come. */
  async #run<T>(task: (signal: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T> {
    if (this.#end) throw this.#end;
    const run = linkAbort(signal);
    this.#runs.add(run);
    try {
      return await this.#queue.run(() => task(run.signal), run.signal);
    } catch (error) {
      // What fails because the device is gone fails for that reason, whatever the call that noticed says.
      const isKnown = error instanceof LlmError || run.signal.aborted;
      throw this.#end ?? (isKnown ? error : ((await this.#parts.gpu.lossError()) ?? error));
    } finally {
      this.#runs.delete(run);
      run.unlink();
    }
  }

  #endRuns(error: LlmError): void {
    this.#end ??= error;
    for (const run of this.#runs) run.abort(this.#end);
  }

  #release(sequence: Sequence): void {
    sequence.evict();
    this.#sequences.delete(sequence);
  }

  /** Pages for `positions`; where the pool is full, those of the longest idle sequences are taken. */
  #reserve(sequence: Sequence, positions: number): boolean {
    if (sequence.table.reserve(positions)) return true;
    const idle = [...this.#sequences]
      .filter((other) => other !== sequence && other.table.capacity > 0)
      .sort((a, b) => a.lastUsed - b.lastUsed);
    for (const victim of idle) {
      victim.evict();
      if (sequence.table.reserve(positions)) return true;
    }
    return false;
  }
}
