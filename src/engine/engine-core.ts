// A model that answers: its weights on the GPU, the conversations whose K/V it holds, one run at a time.
import { LlmError } from "../errors";
import type { Gpu } from "../gpu/device";
import { KernelCache } from "../gpu/kernel";
import { KvCache, type KvFormat } from "../kv/kv-cache";
import { PagePool } from "../kv/page-pool";
import { Model } from "../model/model";
import type { ProgramContext } from "../model/program-context";
import { Scratch } from "../model/scratch";
import type { ModelConfig } from "../weights/model-config";
import { type Evaluation, type EvaluationRequest, evaluate } from "./evaluate";
import { type GenerationRequest, type GenerationResult, runGeneration } from "./generation";
import { RunQueue } from "./run-queue";
import { Sampler } from "./sampler";
import { Sequence } from "./sequence";
import { Stepper } from "./stepper";

export interface EngineOptions {
  /** Positions that a conversation can have. Default: what the model was made for, at most 4096. */
  readonly contextLength?: number;
  /** Positions in the K/V pool, shared by all chats. Default: contextLength. */
  readonly poolLength?: number;
  /** Positions in a page: 16, 32, 64 or 128. Default 64. */
  readonly pageSize?: number;
  /** K/V as stored; f16 by default. */
  readonly kvFormat?: KvFormat;
  /** Rows of a prefill chunk, at most. Default 256. */
  readonly chunkRows?: number;
  /** Decode steps submitted ahead of the CPU. Default 4. */
  readonly stepsAhead?: number;
}

const DEFAULT_CONTEXT = 4096;

export interface EngineMemory {
  /** Bytes on the GPU. */
  readonly weights: number;
  readonly kv: number;
  readonly scratch: number;
  readonly total: number;
  readonly bufferCount: number;
}

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
  readonly #sequences = new Set<Sequence>();
  #clock = 0;
  #disposed = false;
  #lost: GPUDeviceLostInfo | null = null;

  private constructor(parts: EngineParts) {
    this.#parts = parts;
    this.config = parts.config;
    this.contextLength = parts.contextLength;
    void parts.gpu.lost.then((info) => {
      this.#lost = info;
    });
  }

  /**
   * Allocates cache and scratch and compiles the sampler. The engine owns `gpu` from here on, also when this throws.
   *
   * @throws LlmError "out-of-memory" | "gpu-error" | "bad-request"
   */
  static async create(gpu: Gpu, config: ModelConfig, options: EngineOptions = {}): Promise<EngineCore> {
    try {
      const contextLength = checkedContext(options.contextLength ?? Math.min(config.maxPositions, DEFAULT_CONTEXT), config);
      const pageSize = options.pageSize ?? 64;
      const pageCount = Math.ceil(Math.max(options.poolLength ?? contextLength, contextLength) / pageSize);
      const { layerCount, kvHeadCount, headDim } = config;
      const chunkRows = options.chunkRows ?? 256;
      const { scratch, cache } = await gpu.checked(
        "the K/V pool and activations",
        () => ({
          scratch: new Scratch(gpu, config, { chunkRows, contextLength, pageSize }),
          cache: new KvCache(gpu, { layerCount, kvHeadCount, headDim, pageSize, pageCount, format: options.kvFormat ?? "f16" }),
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
      const stepper = new Stepper(model, sampler, { chunkRows, stepsAhead: options.stepsAhead ?? 4 });
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
    this.#check();
    const sequence = new Sequence(this.#parts.pool);
    this.#sequences.add(sequence);
    return sequence;
  }

  /** Frees the sequence's pages. */
  releaseSequence(sequence: Sequence): void {
    sequence.evict();
    this.#sequences.delete(sequence);
  }

  /**
   * Continues a sequence when its turn comes; `prepare` then says how, so that it sees what the runs before left.
   *
   * @throws LlmError "device-lost" | "disposed"; the signal's reason.
   */
  generate(prepare: () => GenerationRequest, signal?: AbortSignal): Promise<GenerationResult> {
    return this.#run(() => {
      const request = prepare();
      request.sequence.lastUsed = ++this.#clock;
      const reserve = (sequence: Sequence, positions: number) => this.#reserve(sequence, positions);
      return runGeneration(this.#parts.stepper, request, { contextLength: this.contextLength, reserve });
    }, signal);
  }

  /** The logits of every position of a list of ids. For evaluation and tests; it leaves no K/V behind. */
  evaluate(request: EvaluationRequest): Promise<Evaluation> {
    return this.#run(async () => {
      const sequence = this.createSequence();
      try {
        return await evaluate(
          this.#parts.stepper,
          sequence,
          request,
          (positions) => this.#reserve(sequence, positions),
          this.contextLength,
        );
      } finally {
        this.releaseSequence(sequence);
      }
    }, request.signal);
  }

  memory(): EngineMemory {
    return this.#parts.gpu.memory();
  }

  /** Frees everything on the GPU. Runs under way fail with "disposed". */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#parts.gpu.dispose();
  }

  async #run<T>(task: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    this.#check();
    try {
      return await this.#queue.run(() => {
        this.#check();
        return task();
      }, signal);
    } catch (error) {
      // What fails because the device is gone fails for that reason, whatever the call that noticed says.
      this.#check();
      throw error;
    }
  }

  #check(): void {
    if (this.#disposed) throw new LlmError("disposed", "This engine was disposed. Load it again with loadEngine.");
    if (this.#lost) {
      throw new LlmError(
        "device-lost",
        `The graphics device was lost (${this.#lost.reason}): ${this.#lost.message || "no reason given"}. Load the engine again.`,
      );
    }
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

function checkedContext(contextLength: number, config: ModelConfig): number {
  if (!Number.isInteger(contextLength) || contextLength < 1 || contextLength > config.maxPositions) {
    throw new LlmError("bad-request", `contextLength is ${contextLength}; this model takes 1 to ${config.maxPositions} positions.`);
  }
  return contextLength;
}
