// A model that answers: what is asked of it, and how it goes over to another stage or another device.
import { assert } from "../assert";
import { linkAbort } from "../bytes/abort";
import { LlmError } from "../errors";
import { deviceLostError, type Gpu } from "../gpu/device";
import { checkStopIds } from "../kernels/sampling-params";
import type { KvSnapshot } from "../kv/kv-snapshot";
import type { Model } from "../model/model";
import type { ModelIdentity } from "../repository/identity";
import type { StagePlan } from "../stages/plan";
import type { StageWeights } from "../stages/stage-loader";
import { pacerFor } from "../steps/chunk-pacer";
import { type Evaluation, type EvaluationRequest, type EvaluationStop, evaluate } from "../steps/evaluate";
import type { GenerationResult } from "../steps/generation-progress";
import type { Runtime } from "../steps/runtime";
import { checkIds, Sequence } from "../steps/sequence";
import { Handover } from "../takeover/handover";
import { dropSpentResiduals } from "../takeover/residual-retention";
import { type RestoreReport, restoreSequence, snapshotSequence } from "../takeover/restore";
import { SafetyCopy } from "../takeover/safety-copy";
import { Upgrade } from "../takeover/upgrade";
import { type KvCarry, type UpgradePolicy, type UpgradeReport, Upgrader } from "../takeover/upgrader";
import type { ModelConfig } from "../weights/model-config";
import type { Answering } from "./answering";
import { createRuntime, type RuntimeShape, startRuntime } from "./create-runtime";
import { type EngineOptions, resolveEngineOptions } from "./engine-options";
import { recover } from "./recovery";
import type { GenerationRequest } from "./run";
import { Scheduler } from "./scheduler";
import type { WeightSupply } from "./weight-supply";

export interface EngineMemory {
  /** Bytes on the GPU. */
  readonly weights: number;
  readonly kv: number;
  readonly scratch: number;
  readonly total: number;
  readonly bufferCount: number;
}

/** News of the engine's own. */
export type CoreEvent =
  /** The upgrade goes on without a copy of what it keeps: should the device be lost, K/V is computed anew. */
  | { readonly type: "snapshot-failed"; readonly error: unknown }
  /** The same stage answers on another device. */
  | { readonly type: "recovered"; readonly recoveryMs: number }
  | { readonly type: "recovery-failed"; readonly error: unknown };

/** What the engine is made of, and where it comes from. */
export interface EngineSource extends Pick<RuntimeShape, "plan" | "onVariantRejected" | "tunings"> {
  readonly identity: ModelIdentity;
  readonly supply: WeightSupply;
  /** Gets a device in the place of a lost one. Without it a loss is the engine's end. */
  readonly anotherGpu?: (signal: AbortSignal) => Promise<Gpu>;
  readonly onEvent?: (event: CoreEvent) => void;
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
  readonly signal?: AbortSignal | undefined;
}

export class EngineCore {
  readonly config: ModelConfig;
  readonly contextLength: number;
  readonly #source: EngineSource;
  readonly #shape: RuntimeShape;
  readonly #scheduler: Scheduler;
  /** What answers, or answered last. */
  #runtime: Runtime;
  #hasStarted = false;
  /** Aborts when the engine ends: nothing is read or computed for it any more. */
  readonly #life = new AbortController();
  /** Of the conversation that was used last at the last upgrade, what that kept: for a lost device. */
  readonly #safety: SafetyCopy;

  private constructor(runtime: Runtime, shape: RuntimeShape, source: EngineSource) {
    const { contextLength, batchSize, prefixCache } = shape.options;
    this.#runtime = runtime;
    this.#shape = shape;
    this.#source = source;
    this.config = shape.config;
    this.contextLength = contextLength;
    this.#safety = new SafetyCopy((error) => source.onEvent?.({ type: "snapshot-failed", error }));
    this.#scheduler = new Scheduler({
      ...{ contextLength, batchSize, prefixCache },
      fetchRows: ({ model }, rows, signal) => source.supply.fetchRows(rows, model.weights, signal),
      holdReads: () => source.supply.valve.hold(),
    });
    this.#watch(runtime.gpu);
  }

  /**
   * Allocates cache and scratch, compiles the sampler and tests the device's kernels. The engine owns `gpu` once this resolves.
   *
   * @throws LlmError "out-of-memory" | "gpu-error" | "bad-request"
   */
  static async create(gpu: Gpu, config: ModelConfig, source: EngineSource, options: EngineOptions = {}): Promise<EngineCore> {
    const resolved = resolveEngineOptions(options, config);
    const { plan, onVariantRejected, tunings } = source;
    const shape: RuntimeShape = {
      ...{ config, plan, options: resolved },
      root: `${source.identity.weights} ${resolved.kvFormat} K/V${resolved.prefillActivations === "int8" ? " from int8" : ""}`,
      ...(onVariantRejected && { onVariantRejected }),
      ...(tunings && { tunings }),
    };
    return new EngineCore(await createRuntime(gpu, shape, 0), shape, source);
  }

  /** Puts the first stage in place: from here on the engine answers. It owns the weights once this resolves. */
  async start(weights: StageWeights): Promise<void> {
    await startRuntime(this.#runtime, this.plan, weights);
    this.#scheduler.checkAlive();
    this.#hasStarted = true;
    this.#handOverTo(this.#runtime);
  }

  /** Says which weights compute K/V, and what token ids stand for. */
  get identity(): ModelIdentity {
    return this.#source.identity;
  }

  /** Index of the plan's stage that answers. */
  get stage(): number {
    return this.#runtime.stage;
  }

  get plan(): StagePlan {
    return this.#shape.plan;
  }

  get model(): Model {
    return this.#runtime.model;
  }

  get gpu(): Gpu {
    return this.#runtime.gpu;
  }

  /** Resolves when a device answers: at once, or after a recovery. @throws the engine's end; the signal's reason. */
  async ready(signal?: AbortSignal): Promise<void> {
    await this.#scheduler.ready(signal);
  }

  /** Aborts with the engine's end. */
  get life(): AbortSignal {
    return this.#life.signal;
  }

  createSequence(): Sequence {
    this.#scheduler.checkAlive();
    return new Sequence(this.#runtime.cache.groups);
  }

  /** Frees the sequence's pages at once; what is asked of it fails with "disposed". */
  releaseSequence(sequence: Sequence): void {
    this.#scheduler.roster.release(sequence, new LlmError("disposed", "The sequence was released."));
    this.#dropResiduals();
  }

  /**
   * Prefills what is not cached of a sequence and decodes on. Up to `batchSize` sequences share each decode step; further requests wait. It outlives
   * a lost device.
   *
   * @throws LlmError "bad-request" | "device-lost" | "disposed" …; the signal's reason. The sequence keeps what was said by then.
   */
  async generate(request: GenerationRequest): Promise<GenerationResult> {
    const { tokens } = request.sequence;
    if (tokens.length === 0) throw new LlmError("bad-request", "The prompt has no tokens: there is nothing to go on from.");
    checkIds(tokens, this.config.vocabSize);
    checkStopIds(request.stopIds);
    try {
      return await this.#scheduler.generate(request);
    } finally {
      this.#dropResiduals();
    }
  }

  /** Runs `act` while nothing else runs. @throws LlmError "device-lost" | "disposed"; the signal's reason; what `act` throws. */
  alone<T>(act: (runtime: Runtime) => Promise<T>, signal?: AbortSignal): Promise<T> {
    return this.#scheduler.alone(({ runtime }) => act(runtime), signal);
  }

  /**
   * A copy of the sequence's K/V in CPU memory, taken while the sequence does not run.
   *
   * @throws LlmError "device-lost" | "disposed" | "out-of-memory"; the signal's reason.
   */
  snapshot(sequence: Sequence, signal?: AbortSignal): Promise<KvSnapshot> {
    return this.#scheduler.withSequence(sequence, ({ runtime }, ending) => snapshotSequence(runtime.gpu, sequence, ending), signal);
  }

  /**
   * Writes back what a snapshot has of the sequence's tokens; the rest is computed when it is next used.
   *
   * @throws LlmError "device-lost" | "disposed"; the signal's reason.
   */
  restore(sequence: Sequence, snapshot: KvSnapshot, signal?: AbortSignal): Promise<RestoreReport> {
    const { sequences } = this.#scheduler.roster;
    const restore = ({ runtime }: Answering, ending: AbortSignal) => {
      sequence.follow(runtime.cache.groups);
      return restoreSequence(runtime.gpu, sequences, sequence, snapshot, ending);
    };
    return this.#scheduler.withSequence(sequence, restore, signal);
  }

  /** The logits of every position of a list of ids. For evaluation and tests; it leaves no K/V behind. `stops`: see `EvaluationHooks`. */
  evaluate(request: EvaluationRequest, stops: readonly EvaluationStop[] = []): Promise<Evaluation> {
    return this.#scheduler.alone((answering, signal) => this.#evaluate(answering, { ...request, signal }, stops), request.signal);
  }

  /**
   * Moves to a later stage, between two steps; conversations go on, K/V below the upgrade's boundary as it is. Resolves when the new stage
   * answers. An upgrade that is still under way when this is called is taken into this one, and both resolve alike.
   *
   * @throws LlmError "out-of-memory" | "gpu-error" | "device-lost" | "disposed"; the signal's reason. The stage that answered goes on answering, and
   * the weights are the caller's.
   */
  async upgrade({ stage, weights, policy, carry = "keep", onPrepared, signal }: UpgradeRequest): Promise<UpgradeReport> {
    const { plan, root } = this.#shape;
    const { runtime, upgrader, gone } = await this.#scheduler.ready(signal);
    const prepare = (all: StageWeights) => {
      assert(stage > runtime.stage, `stage ${stage} after ${runtime.stage}`);
      return Upgrade.prepare({ runtime, plan, root }, { from: runtime.stage, to: stage }, all);
    };
    const whenPrepared = (boundary: number) => {
      onPrepared?.();
      if (this.#source.anotherGpu) void this.#safety.save(runtime.gpu, this.#lastUsed(runtime), boundary);
    };
    const ending = linkAbort(signal, gone.signal);
    try {
      return await upgrader.run({ weights, prepare, policy, carry, onPrepared: whenPrepared }, ending.signal);
    } catch (error) {
      this.#safety.stop(); // nothing was given up
      throw ending.signal.aborted || error instanceof LlmError ? error : ((await runtime.gpu.lossError()) ?? error);
    } finally {
      ending.unlink();
    }
  }

  memory(): EngineMemory {
    return this.gpu.memory();
  }

  /** Frees everything on the GPU. Whatever is under way fails with "disposed". */
  dispose(): void {
    this.#endAll(new LlmError("disposed", "This engine was disposed. Load it again with loadEngine."));
    this.gpu.dispose();
  }

  #endAll(error: LlmError): void {
    this.#safety.stop();
    this.#scheduler.endAll(error);
    this.#life.abort(error);
  }

  #handOverTo(runtime: Runtime): void {
    const { chunkRows } = this.#shape.options;
    const { vectorRows } = runtime.model.context.scratch.layout;
    this.#runtime = runtime;
    this.#scheduler.handOverTo({
      runtime,
      upgrader: new Upgrader({ chunkRows, vectorRows }, () => this.#scheduler.wake()),
      pacer: pacerFor(runtime.model.context),
      gone: new AbortController(),
    });
  }

  #watch(gpu: Gpu): void {
    void gpu.lost.then((info) => this.#lose(gpu, deviceLostError(info, gpu.adapterName)));
  }

  #lose(gpu: Gpu, loss: LlmError): void {
    if (gpu !== this.gpu || this.life.aborted) return;
    const { anotherGpu } = this.#source;
    if (this.#hasStarted && anotherGpu) {
      this.#scheduler.lose(this.#runtime, loss);
      void this.#recover(new Handover<Runtime>(this.life), anotherGpu, loss);
    } else this.#endAll(loss);
  }

  /** The same stage on another device. */
  async #recover(handover: Handover<Runtime>, anotherGpu: NonNullable<EngineSource["anotherGpu"]>, loss: LlmError): Promise<void> {
    const { supply, onEvent } = this.#source;
    const startMs = performance.now();
    void recover(handover, { anotherGpu, supply, shape: this.#shape, stage: this.stage });
    let runtime: Runtime | null = null;
    try {
      runtime = await handover.done;
      await this.#useSafety(runtime);
      this.life.throwIfAborted();
      this.gpu.dispose();
      this.#watch(runtime.gpu);
      this.#handOverTo(runtime);
      onEvent?.({ type: "recovered", recoveryMs: performance.now() - startMs });
    } catch (error) {
      runtime?.gpu.dispose();
      if (this.life.aborted) return;
      onEvent?.({ type: "recovery-failed", error });
      this.#endAll(error instanceof LlmError ? error : loss);
    }
  }

  /** Gives the conversation used last what was kept for it; where that fails, its K/V is computed anew. */
  async #useSafety({ gpu, cache }: Runtime): Promise<void> {
    const saved = this.#safety.take();
    const { sequences } = this.#scheduler.roster;
    if (!saved || !sequences.has(saved.sequence)) return;
    const { sequence, snapshot } = saved;
    sequence.follow(cache.groups);
    try {
      await restoreSequence(gpu, sequences, sequence, snapshot, this.life);
    } catch (error) {
      this.#source.onEvent?.({ type: "snapshot-failed", error });
    }
  }

  #lastUsed({ cache }: Runtime): Sequence | null {
    return this.#scheduler.roster.sequences.lastUsed(cache.groups);
  }

  #dropResiduals(): void {
    const { answering, roster } = this.#scheduler;
    if (answering) dropSpentResiduals(answering.runtime, this.plan, roster.sequences);
  }

  async #evaluate(
    answering: Answering,
    request: EvaluationRequest & { readonly signal: AbortSignal },
    stops: readonly EvaluationStop[],
  ): Promise<Evaluation> {
    const { sequences } = this.#scheduler.roster;
    const sequence = this.createSequence();
    const leave = sequences.occupy(sequence);
    const reserve = (positions: number) => sequences.reserve(sequence, positions);
    const between = async () => {
      await this.#scheduler.betweenChunks(answering, sequence);
      if (!reserve(sequence.tokens.length)) {
        throw new LlmError("out-of-memory", "The K/V pool has no room left. Set poolLength higher.");
      }
    };
    try {
      checkIds(request.ids, this.config.vocabSize);
      sequence.append(request.ids);
      await this.#scheduler.prepare(answering, sequence, request.signal, () => true);
      return await evaluate(answering.runtime.stepper, sequence, request, { stops, reserve, between }, this.contextLength);
    } finally {
      leave();
      sequences.release(sequence);
    }
  }
}
