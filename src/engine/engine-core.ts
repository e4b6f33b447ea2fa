// A model that answers: its weights on the GPU, the conversations whose K/V it holds, one run at a time.
import { assert, present } from "../assert";
import { type LinkedAbort, linkAbort } from "../bytes/abort";
import { LlmError } from "../errors";
import { deviceLostError, type Gpu } from "../gpu/device";
import { KernelCache } from "../gpu/kernel";
import { KvCache, KvGroup, type KvLayout } from "../kv/kv-cache";
import type { KvSnapshot } from "../kv/kv-snapshot";
import { Lane } from "../model/lane";
import { Model, type OuterWeights } from "../model/model";
import type { ProgramContext } from "../model/program-context";
import { bindResiduals } from "../model/residual-steps";
import { activationStrides, Scratch } from "../model/scratch";
import { comingBoundaries, kvGroupShapes } from "../stages/kv-groups";
import { type StagePlan, stageContents } from "../stages/plan";
import type { StageWeights } from "../stages/stage-loader";
import type { ModelConfig } from "../weights/model-config";
import { type RowSet, rowsOf, subtractRows, unionRows } from "../weights/row-set";
import { type EngineOptions, resolveEngineOptions } from "./engine-options";
import { type Evaluation, type EvaluationRequest, type EvaluationStop, evaluate } from "./evaluate";
import { type GenerationRequest, type GenerationResult, runGeneration } from "./generation";
import { type RestoreReport, restoreSequence, snapshotSequence } from "./restore";
import { RunQueue } from "./run-queue";
import { Sampler } from "./sampler";
import { checkIds, Sequence } from "./sequence";
import { Stepper } from "./stepper";
import { Upgrade } from "./upgrade";
import { type KvCarry, type UpgradePolicy, type UpgradeReport, Upgrader } from "./upgrader";

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

/** What the engine is to become, stage by stage, and where the rest of it comes from. */
export interface EngineStages {
  readonly plan: StagePlan;
  /** Names the model's files: what K/V is worth is told by it and by the plan. */
  readonly root: string;
  /** Reads rows of the embedding that a prompt needs, and gives those that are there now. */
  readonly fetchRows: (rows: RowSet, outer: OuterWeights, signal: AbortSignal) => Promise<RowSet>;
  /** Holds later stages' reads back until what it returns is called: somebody waits for a first token. */
  readonly holdReads: () => () => void;
}

export interface UpgradeRequest {
  /** Index of the plan's stage. */
  readonly stage: number;
  /** All that it has and the stage that answers has not. The engine owns it once the promise resolves. */
  readonly weights: StageWeights;
  readonly policy: UpgradePolicy;
  readonly carry?: KvCarry;
  /** Everything is allocated and bound: what is left is to rebuild K/V, and to take over. */
  readonly onPrepared?: () => void;
  readonly signal?: AbortSignal;
}

interface EngineParts extends EngineStages {
  readonly gpu: Gpu;
  readonly config: ModelConfig;
  readonly model: Model;
  readonly sampler: Sampler;
  readonly stepper: Stepper;
  readonly cache: KvCache;
  readonly contextLength: number;
  readonly prefixCache: boolean;
}

export class EngineCore {
  readonly config: ModelConfig;
  readonly contextLength: number;
  readonly #parts: EngineParts;
  readonly #queue = new RunQueue();
  /** Those that may hold pages. */
  readonly #sequences = new Set<Sequence>();
  readonly #upgrader: Upgrader;
  #embeddingRows: RowSet = [];
  #clock = 0;
  readonly #runs = new Set<LinkedAbort>();
  /** Why no run can be: the engine was disposed of, or its device lost. */
  #end: LlmError | null = null;

  private constructor(parts: EngineParts) {
    this.#parts = parts;
    this.config = parts.config;
    this.contextLength = parts.contextLength;
    const { model, stepper, gpu } = parts;
    this.#upgrader = new Upgrader({
      takeTurn: (turn) => this.#queue.run(turn),
      idle: () => gpu.device.queue.onSubmittedWorkDone(),
      lastUsed: () => [...this.#sequences].filter(({ capacity }) => capacity > 0).sort((a, b) => b.lastUsed - a.lastUsed)[0] ?? null,
      committed: (upgrade) => {
        stepper.stage = upgrade.step.to;
        this.#embeddingRows = unionRows(this.#embeddingRows, upgrade.weights.rows);
      },
      chunkRows: model.context.scratch.layout.chunkRows,
    });
    void gpu.lost.then((info) => this.#endRuns(deviceLostError(info)));
  }

  /**
   * Allocates cache and scratch and compiles the sampler. The engine owns `gpu` from here on, also when this throws.
   *
   * @throws LlmError "out-of-memory" | "gpu-error" | "bad-request"
   */
  static async create(gpu: Gpu, config: ModelConfig, stages: EngineStages, options: EngineOptions = {}): Promise<EngineCore> {
    try {
      const { contextLength, poolLength, pageSize, chunkRows, stepsAhead, kvFormat, prefixCache } = resolveEngineOptions(options, config);
      const kvLayout: KvLayout = {
        kvHeadCount: config.kvHeadCount,
        headDim: config.headDim,
        pageSize,
        pageCount: Math.ceil(poolLength / pageSize),
        format: kvFormat,
        residualStride: activationStrides(config).hidden,
      };
      const root = `${stages.root} ${kvFormat} K/V`;
      const scratchLayout = { chunkRows, contextLength, pageSize };
      const { scratch, lane, cache } = await gpu.checked(
        "the K/V pool and activations",
        () => ({
          scratch: new Scratch(gpu, config, scratchLayout),
          lane: new Lane(gpu, "main", config, scratchLayout),
          cache: new KvCache(kvGroupShapes(stages.plan, 0, root).map((shape) => new KvGroup(gpu, kvLayout, shape))),
        }),
        () => undefined, // gpu.dispose below frees them
      );
      const context: ProgramContext = {
        ...{ gpu, config, scratch, lane, kvLayout },
        kernels: KernelCache.of(gpu),
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
      return new EngineCore({ ...stages, root, gpu, config, model, sampler, stepper, cache, contextLength, prefixCache });
    } catch (error) {
      gpu.dispose();
      throw error;
    }
  }

  /** Puts the first stage in place: from here on the engine answers. It owns the weights once this resolves. */
  async start(weights: StageWeights): Promise<void> {
    const { model, sampler, cache, plan } = this.#parts;
    const { rows } = stageContents(plan, 0);
    for (const [layer, layerWeights] of weights.layers) {
      const group = cache.groupOf(layer);
      model.slots[layer]?.replace(await model.prepareLayer(layer, layerWeights, { group, lane: model.context.lane }));
    }
    await model.setOuter(present(weights.outer, "what surrounds the layers"), rows);
    model.useResiduals(await bindResiduals(model.context, cache.groups, model.context.lane, comingBoundaries(plan, 0)));
    sampler.setPresentRows(rows);
    this.#embeddingRows = rows;
  }

  /** Index of the plan's stage that answers. */
  get stage(): number {
    return this.#parts.stepper.stage;
  }

  get plan(): StagePlan {
    return this.#parts.plan;
  }

  /**
   * Moves to a later stage, between two steps; conversations go on, K/V below the upgrade's boundary as it is. Resolves when the new stage
   * answers. An upgrade that is still under way when this is called is given up for this one, which brings what it would have: both resolve alike.
   *
   * @throws LlmError "out-of-memory" | "gpu-error" | "device-lost" | "disposed"; the signal's reason. The stage that answered goes on answering, and
   * the weights are the caller's.
   */
  async upgrade({ stage, weights, policy, carry = "keep", onPrepared = () => undefined, signal }: UpgradeRequest): Promise<UpgradeReport> {
    if (this.#end) throw this.#end;
    const { model, sampler, cache, plan, root } = this.#parts;
    assert(stage > this.stage, `stage ${stage} after ${this.stage}`);
    const prepare = (all: StageWeights) => Upgrade.prepare({ model, sampler, cache, plan, root }, { from: this.stage, to: stage }, all);
    const ending = linkAbort(signal);
    this.#runs.add(ending);
    try {
      return await this.#upgrader.run(prepare, weights, { policy, carry, onPrepared, signal: ending.signal });
    } catch (error) {
      throw await this.#reasonOf(error, ending.signal);
    } finally {
      this.#runs.delete(ending);
      ending.unlink();
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
    return new Sequence(this.#parts.cache.groups);
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
    const readOn = this.#parts.holdReads();
    return this.#run((ending) => {
      return turn((request) => {
        const onToken: GenerationRequest["onToken"] = (id, stage) => {
          readOn();
          return request.onToken(id, stage);
        };
        const host = {
          contextLength: this.contextLength,
          reserve: (reserving: Sequence, positions: number) => this.#reserve(reserving, positions),
          begin: (beginning: Sequence, runSignal: AbortSignal) => this.#begin(beginning, beginning.tokens, runSignal),
          end: (ended: Sequence) => this.#publish(ended),
          beforeStep: (running: Sequence, position: number) => this.#beforeStep(running, position),
          tokenCame: this.#upgrader.tokenCame,
        };
        return runGeneration(this.#parts.stepper, { ...request, onToken }, host, ending);
      });
    }, signal).finally(readOn);
  }

  /** A copy of the sequence's K/V in CPU memory, taken between runs. @throws LlmError "device-lost" | "disposed" | "out-of-memory"; the signal's reason. */
  snapshot(sequence: Sequence, signal?: AbortSignal): Promise<KvSnapshot> {
    return this.#run((ending) => snapshotSequence(this.#parts.gpu, sequence, ending), signal);
  }

  /** Writes back what a snapshot has of the sequence's tokens; the rest is computed when it is next used. */
  restore(sequence: Sequence, snapshot: KvSnapshot): Promise<RestoreReport> {
    return this.#run(async () => {
      this.#sequences.add(sequence);
      sequence.lastUsed = ++this.#clock;
      sequence.follow(this.#parts.cache.groups);
      return restoreSequence(this.#parts.gpu, sequence, snapshot, (positions) => this.#reserve(sequence, positions));
    });
  }

  /** The logits of every position of a list of ids. For evaluation and tests; it leaves no K/V behind. `stops`: see `EvaluationHooks`. */
  evaluate(request: EvaluationRequest, stops: readonly EvaluationStop[] = []): Promise<Evaluation> {
    return this.#run(async (signal) => {
      const sequence = this.createSequence();
      const hooks = {
        stops,
        reserve: (positions: number) => this.#reserve(sequence, positions),
        between: () => this.#betweenChunks(sequence),
      };
      try {
        checkIds(request.ids, this.config.vocabSize);
        await this.#begin(sequence, request.ids, signal);
        return await evaluate(this.#parts.stepper, sequence, { ...request, signal }, hooks, this.contextLength);
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
      throw await this.#reasonOf(error, run.signal);
    } finally {
      this.#runs.delete(run);
      run.unlink();
    }
  }

  #endRuns(error: LlmError): void {
    this.#end ??= error;
    for (const run of this.#runs) run.abort(this.#end);
  }

  /** What fails because the device is gone fails for that reason, whatever the call that noticed says. */
  async #reasonOf(error: unknown, signal: AbortSignal): Promise<unknown> {
    const isKnown = error instanceof LlmError || signal.aborted;
    return this.#end ?? (isKnown ? error : ((await this.#parts.gpu.lossError()) ?? error));
  }

  #release(sequence: Sequence): void {
    sequence.evict();
    this.#sequences.delete(sequence);
  }

  /** Makes a sequence the one that runs: in the groups that there are, in the stage that there is, with the rows that its tokens need. */
  async #begin(sequence: Sequence, ids: readonly number[], signal: AbortSignal): Promise<void> {
    const { cache, model, fetchRows } = this.#parts;
    this.#sequences.add(sequence);
    sequence.lastUsed = ++this.#clock;
    sequence.follow(cache.groups);
    const missing = subtractRows(rowsOf(ids), this.#embeddingRows);
    if (missing.length > 0) this.#embeddingRows = unionRows(this.#embeddingRows, await fetchRows(missing, model.weights, signal));
    await this.#upgrader.beforeRun(sequence, (carry) => this.#carryOver(sequence, carry));
    sequence.follow(cache.groups);
    if (this.#parts.prefixCache) sequence.adoptPrefix();
  }

  /** After a commit: the sequence's K/V as it is, or over a snapshot, or computed from its ids. */
  async #carryOver(sequence: Sequence, carry: KvCarry) {
    const { gpu, cache, stepper } = this.#parts;
    sequence.follow(cache.groups);
    const length = sequence.cachedLength;
    let restoredBytes = 0;
    if (carry === "restore") {
      const snapshot = await snapshotSequence(gpu, sequence);
      sequence.evict();
      ({ restoredBytes } = restoreSequence(gpu, sequence, snapshot, (positions) => this.#reserve(sequence, positions)));
    }
    if (carry === "recompute") {
      sequence.evict();
      if (this.#reserve(sequence, length)) await stepper.prefill(sequence, { length });
    }
    return { carry, restoredBytes };
  }

  #publish(sequence: Sequence): void {
    if (this.#parts.prefixCache) sequence.publishPrefix();
  }

  #beforeStep(sequence: Sequence, position: number) {
    const verdict = this.#upgrader.beforeStep(sequence, position);
    if (verdict.type === "wait") return null;
    if (verdict.type === "committed") {
      sequence.follow(this.#parts.cache.groups);
      if (!this.#reserve(sequence, position + 1)) return null;
    }
    return { stage: this.stage, slices: verdict.slices };
  }

  async #betweenChunks(sequence: Sequence): Promise<void> {
    await this.#upgrader.betweenChunks(sequence, (carry) => this.#carryOver(sequence, carry));
    sequence.follow(this.#parts.cache.groups);
    if (!this.#reserve(sequence, sequence.tokens.length))
      throw new LlmError("out-of-memory", "The K/V pool has no room left. Set poolLength higher.");
  }

  /** Pages for `positions`; where the pool is full, those of the longest idle sequences are taken. */
  #reserve(sequence: Sequence, positions: number): boolean {
    const reserve = () => sequence.ownLastPages() && sequence.reserve(positions);
    if (reserve()) return true;
    const idle = [...this.#sequences].filter((other) => other !== sequence && other.capacity > 0).sort((a, b) => a.lastUsed - b.lastUsed);
    for (const victim of idle) {
      victim.evict();
      if (reserve()) return true;
    }
    return false;
  }
}
