// A model that answers: its weights on the GPU, the conversations whose K/V it holds, one run at a time.
import { assert } from "../assert";
import { LlmError } from "../errors";
import type { Gpu } from "../gpu/device";
import type { KvSnapshot } from "../kv/kv-snapshot";
import type { Model, OuterWeights } from "../model/model";
import { comingBoundaries } from "../stages/kv-groups";
import type { StagePlan, Unit } from "../stages/plan";
import type { StageWeights } from "../stages/stage-loader";
import { type Evaluation, type EvaluationRequest, type EvaluationStop, evaluate } from "../steps/evaluate";
import { GenerationProgress, type GenerationRequest, type GenerationResult, runGeneration } from "../steps/generation";
import { checkIds, Sequence } from "../steps/sequence";
import { type RestoreReport, restoreSequence, snapshotSequence } from "../takeover/restore";
import { SafetyCopy } from "../takeover/safety-copy";
import { Upgrade } from "../takeover/upgrade";
import { type KvCarry, type UpgradePolicy, type UpgradeReport, Upgrader } from "../takeover/upgrader";
import type { ModelConfig } from "../weights/model-config";
import { type RowSet, rowsOf, subtractRows, unionRows } from "../weights/row-set";
import type { EngineOptions } from "./engine-options";
import { createParts, type EngineParts, type PartsShape, type PartsSource, partsShape, startParts } from "./engine-parts";
import { EngineRuns } from "./engine-runs";

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
export interface EngineStages extends PartsSource {
  /** Reads rows of the embedding that a prompt needs, and gives those that are there now. */
  readonly fetchRows: (rows: RowSet, outer: OuterWeights, signal: AbortSignal) => Promise<RowSet>;
  /** Holds later stages' reads back until what it returns is called: somebody waits for a first token. */
  readonly holdReads: () => () => void;
  /**
   * Called when the device is lost: gets another one, and calls `revive` with it. Where it rejects, and where there is none, the engine has come to
   * its end.
   */
  readonly recover?: (error: LlmError) => Promise<void>;
  /** An upgrade goes on without its safety copy. */
  readonly onSnapshotFailed?: (error: unknown) => void;
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

export class EngineCore {
  readonly config: ModelConfig;
  readonly contextLength: number;
  readonly #stages: EngineStages;
  readonly #shape: PartsShape;
  #parts: EngineParts;
  readonly #runs: EngineRuns;
  /** Those that may hold pages. */
  readonly #sequences = new Set<Sequence>();
  readonly #upgrader: Upgrader;
  #clock = 0;
  /** Of the conversation that was active at the last upgrade, what that kept: used once, when the device is lost. */
  readonly #safety: SafetyCopy;

  private constructor(parts: EngineParts, shape: PartsShape, stages: EngineStages) {
    this.#parts = parts;
    this.#shape = shape;
    this.#stages = stages;
    this.#runs = new EngineRuns(stages.recover);
    this.#safety = new SafetyCopy((error) => stages.onSnapshotFailed?.(error));
    this.config = shape.config;
    this.contextLength = shape.options.contextLength;
    this.#upgrader = new Upgrader({
      takeTurn: (turn) => this.#runs.afterOthers(turn),
      idle: () => this.gpu.workDone(),
      lastUsed: () => this.#lastUsed(),
      committed: (upgrade) => {
        this.#parts.stepper.stage = upgrade.step.to;
        this.#parts.embeddingRows = unionRows(this.#parts.embeddingRows, upgrade.weights.rows);
        // What was rebuilt for them is theirs now, and not to be taken for the next upgrade's.
        for (const sequence of this.#sequences) sequence.follow(this.#parts.cache.groups);
      },
      chunks: { chunkRows: shape.options.chunkRows, vectorRows: parts.model.context.scratch.layout.vectorRows },
    });
    this.#runs.watch(parts.gpu);
  }

  /**
   * Allocates cache and scratch, compiles the sampler and tests the device's kernels. The engine owns `gpu` once this resolves.
   *
   * @throws LlmError "out-of-memory" | "gpu-error" | "bad-request"
   */
  static async create(gpu: Gpu, config: ModelConfig, stages: EngineStages, options: EngineOptions = {}): Promise<EngineCore> {
    const shape = partsShape(config, stages, options);
    return new EngineCore(await createParts(gpu, shape, 0), shape, stages);
  }

  /** Puts the first stage in place: from here on the engine answers. It owns the weights once this resolves. */
  start(weights: StageWeights): Promise<void> {
    return startParts(this.#parts, this.plan, weights);
  }

  /**
   * Goes on with another device, at the stage that answered; `load` brings the units that it has. Conversations compute their K/V anew when they
   * are next used.
   *
   * @throws LlmError of the device and of `load`; `gpu` is then disposed of.
   */
  async revive(gpu: Gpu, load: (units: readonly Unit[]) => Promise<StageWeights>): Promise<void> {
    let parts: EngineParts;
    try {
      parts = await createParts(gpu, this.#shape, this.stage);
      await startParts(parts, this.plan, await load(this.plan.stages.slice(0, this.stage + 1).flatMap(({ units }) => units)));
      this.#runs.checkAlive();
    } catch (error) {
      gpu.dispose();
      throw error;
    }
    this.#parts.gpu.dispose();
    this.#parts = parts;
    this.#runs.watch(gpu);
    await this.#useSafety();
  }

  /** Index of the plan's stage that answers. */
  get stage(): number {
    return this.#parts.stepper.stage;
  }

  get plan(): StagePlan {
    return this.#shape.plan;
  }

  /**
   * Moves to a later stage, between two steps; conversations go on, K/V below the upgrade's boundary as it is. Resolves when the new stage
   * answers. An upgrade that is still under way when this is called is given up for this one, which brings what it would have: both resolve alike.
   *
   * @throws LlmError "out-of-memory" | "gpu-error" | "device-lost" | "disposed"; the signal's reason. The stage that answered goes on answering, and
   * the weights are the caller's.
   */
  upgrade({ stage, weights, policy, carry = "keep", onPrepared = () => undefined, signal }: UpgradeRequest): Promise<UpgradeReport> {
    const { plan, root } = this.#shape;
    const prepare = (all: StageWeights) => {
      const { model, sampler, cache } = this.#parts;
      assert(stage > this.stage, `stage ${stage} after ${this.stage}`);
      return Upgrade.prepare({ model, sampler, cache, plan, root }, { from: this.stage, to: stage }, all);
    };
    return this.#runs.attempt(
      this.gpu,
      (ending) => {
        const whenPrepared = (boundary: number) => {
          onPrepared();
          if (this.#stages.recover) void this.#safety.save(this.gpu, this.#lastUsed(), boundary);
        };
        return this.#upgrader.run(prepare, weights, { policy, carry, onPrepared: whenPrepared, signal: ending });
      },
      signal,
    );
  }

  get model(): Model {
    return this.#parts.model;
  }

  get gpu(): Gpu {
    return this.#parts.gpu;
  }

  createSequence(): Sequence {
    this.#runs.checkAlive();
    return new Sequence(this.#parts.cache.groups);
  }

  /** Frees the sequence's pages, when the run that may use them is over. */
  async releaseSequence(sequence: Sequence): Promise<void> {
    await this.#runs.afterOthers(async () => this.#release(sequence));
  }

  /**
   * Runs `turn` when those asked for before are over; it sees what they left, and until it ends no other run begins. What
   * it is given continues a sequence.
   *
   * @throws LlmError "device-lost" | "disposed"; the signal's reason.
   */
  takeTurn<T>(turn: (generate: Generate) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const readOn = this.#stages.holdReads();
    return this.#runs
      .run((ending) => {
        return turn((request) => {
          const onToken: GenerationRequest["onToken"] = (id, stage) => {
            readOn();
            return request.onToken(id, stage);
          };
          return this.#generate({ ...request, onToken }, ending);
        });
      }, signal)
      .finally(readOn);
  }

  /** A copy of the sequence's K/V in CPU memory, taken between runs. @throws LlmError "device-lost" | "disposed" | "out-of-memory"; the signal's reason. */
  snapshot(sequence: Sequence, signal?: AbortSignal): Promise<KvSnapshot> {
    return this.#runs.run(
      (ending) => this.#runs.attempt(this.gpu, (lost) => snapshotSequence(this.#parts.gpu, sequence, lost), ending),
      signal,
    );
  }

  /** Writes back what a snapshot has of the sequence's tokens; the rest is computed when it is next used. @throws LlmError "device-lost" | "disposed". */
  restore(sequence: Sequence, snapshot: KvSnapshot): Promise<RestoreReport> {
    return this.#runs.run((ending) => {
      const restore = (signal: AbortSignal) => {
        this.#sequences.add(sequence);
        sequence.lastUsed = ++this.#clock;
        sequence.follow(this.#parts.cache.groups);
        return restoreSequence(this.#parts.gpu, sequence, snapshot, (positions) => this.#reserve(sequence, positions), signal);
      };
      return this.#runs.attempt(this.gpu, restore, ending);
    });
  }

  /** The logits of every position of a list of ids. For evaluation and tests; it leaves no K/V behind. `stops`: see `EvaluationHooks`. */
  evaluate(request: EvaluationRequest, stops: readonly EvaluationStop[] = []): Promise<Evaluation> {
    const attempt = async (signal: AbortSignal) => {
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
    };
    return this.#runs.run((ending) => this.#runs.attempt(this.gpu, attempt, ending), request.signal);
  }

  memory(): EngineMemory {
    return this.#parts.gpu.memory();
  }

  /** Frees everything on the GPU. Runs under way fail with "disposed". */
  dispose(): void {
    this.#safety.stop();
    this.#runs.endAll(new LlmError("disposed", "This engine was disposed. Load it again with loadEngine."));
    this.#parts.gpu.dispose();
  }

  /** An answer outlives its device: what was said stays said, and it goes on where it was. */
  #generate(request: GenerationRequest, signal: AbortSignal): Promise<GenerationResult> {
    const progress = new GenerationProgress();
    const host = {
      contextLength: this.contextLength,
      reserve: (sequence: Sequence, positions: number) => this.#reserve(sequence, positions),
      begin: (sequence: Sequence, ending: AbortSignal) => this.#begin(sequence, sequence.tokens, ending),
      end: (sequence: Sequence) => this.#publish(sequence),
      beforeStep: (sequence: Sequence, position: number) => this.#beforeStep(sequence, position),
      tokenCame: this.#upgrader.tokenCame,
    };
    const attempt = () =>
      this.#runs.attempt(this.gpu, (ending) => runGeneration(this.#parts.stepper, request, host, progress, ending), signal);
    return this.#runs.outlive(attempt, signal);
  }

  /** Gives the active conversation what was kept for it; where that fails, K/V is computed anew. */
  async #useSafety(): Promise<void> {
    const saved = this.#safety.take();
    if (!saved || !this.#sequences.has(saved.sequence)) return;
    const { sequence, snapshot } = saved;
    sequence.follow(this.#parts.cache.groups);
    try {
      await restoreSequence(this.#parts.gpu, sequence, snapshot, (positions) => this.#reserve(sequence, positions));
    } catch (error) {
      this.#stages.onSnapshotFailed?.(error);
    }
  }

  #lastUsed(): Sequence | null {
    const [first] = this.#parts.cache.groups;
    const holding = [...this.#sequences].filter(({ capacity, parts }) => capacity > 0 && parts[0]?.group === first);
    return holding.sort((a, b) => b.lastUsed - a.lastUsed)[0] ?? null;
  }

  #release(sequence: Sequence): void {
    sequence.evict();
    this.#sequences.delete(sequence);
  }

  /** Makes a sequence the one that runs: in the groups that there are, in the stage that there is, with the rows that its tokens need. */
  async #begin(sequence: Sequence, ids: readonly number[], signal: AbortSignal): Promise<void> {
    const { cache, model } = this.#parts;
    this.#sequences.add(sequence);
    sequence.lastUsed = ++this.#clock;
    sequence.follow(cache.groups);
    const missing = subtractRows(rowsOf(ids), this.#parts.embeddingRows);
    if (missing.length > 0) {
      const fetched = await this.#stages.fetchRows(missing, model.weights, signal);
      this.#parts.embeddingRows = unionRows(this.#parts.embeddingRows, fetched);
    }
    await this.#upgrader.beforeRun(sequence, (carry) => this.#carryOver(sequence, carry));
    sequence.follow(cache.groups);
    if (this.#shape.options.prefixCache) sequence.adoptPrefix();
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
      ({ restoredBytes } = await restoreSequence(gpu, sequence, snapshot, (positions) => this.#reserve(sequence, positions)));
    }
    if (carry === "recompute") {
      sequence.evict();
      if (this.#reserve(sequence, length)) await stepper.prefill(sequence, { length });
    }
    return { carry, restoredBytes };
  }

  /** A run is over. */
  #publish(sequence: Sequence): void {
    if (this.#shape.options.prefixCache) sequence.publishPrefix();
    this.#dropResiduals();
  }

  /** Frees residuals that no coming upgrade begins at, and no sequence has to catch up from. */
  #dropResiduals(): void {
    const { cache, model } = this.#parts;
    const coming = comingBoundaries(this.plan, this.stage);
    for (const [index, group] of cache.groups.entries()) {
      if (!group.residuals || coming.has(group.end)) continue;
      const lags = ({ parts }: Sequence) =>
        (parts[index]?.cachedLength ?? 0) >
        (parts[index + 1]?.group === cache.groups[index + 1] ? (parts[index + 1]?.cachedLength ?? 0) : 0);
      if ([...this.#sequences].some(lags)) continue;
      model.forgetResidual(group.end);
      group.dropResiduals();
    }
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
