// Brings the later stages while the first one answers: loads them in their order, and hands each to the engine as it comes.
import { type LinkedAbort, linkAbort } from "../bytes/abort";
import { LlmError } from "../errors";
import { deviceLostError, type Gpu } from "../gpu/device";
import type { ModelRecipe } from "../stages/model-recipe";
import type { Stage, StagePlan } from "../stages/plan";
import type { StageWeights } from "../stages/stage-loader";
import { Handover } from "../takeover/handover";
import type { KvCarry, UpgradePolicy, UpgradeReport } from "../takeover/upgrader";
import { isLoss } from "./answering";
import type { EngineCore } from "./engine-core";
import { guardedListener } from "./guarded-listener";
import type { WeightSupply } from "./weight-supply";

export interface StageInfo extends Pick<Stage, "name" | "quality"> {
  readonly index: number;
  /** Of what arrives with it, in the files. */
  readonly bytes: number;
}

/** Of a plan's stage. */
export function stageInfo(plan: StagePlan, recipe: ModelRecipe, index: number): StageInfo {
  const { name = "", quality = null, units = [] } = plan.stages[index] ?? {};
  return { index, name, quality, bytes: recipe.unitBytes(units) + (index === 0 ? recipe.otherBytes : 0) };
}

/** Which stage answers, and what becomes of the next. */
export type StageEvent =
  /** In what order the weights come; `plan.source` says who made it. A stage without `quality` is one that nobody has measured. */
  | { readonly type: "stages-planned"; readonly stages: readonly StageInfo[]; readonly plan: StagePlan }
  /** The stage answers from here on. */
  | { readonly type: "stage-ready"; readonly stage: StageInfo; readonly isLast: boolean }
  /** The stage's weights are on the GPU; the one before it answers on until `upgrade-end`. */
  | { readonly type: "upgrade-start"; readonly stage: StageInfo; readonly policy: UpgradePolicy }
  | ({ readonly type: "upgrade-end"; readonly stage: StageInfo } & Omit<UpgradeReport, "stage">)
  /** A later stage came before this one's K/V was rebuilt: the model goes to that one at once, whose `upgrade-end` stands for both. */
  | { readonly type: "upgrade-superseded"; readonly stage: StageInfo; readonly by: StageInfo }
  /** The stage that answered goes on answering. `resumeDelivery` tries again. */
  | { readonly type: "upgrade-failed"; readonly stage: StageInfo; readonly error: unknown }
  /** The upgrade goes on without a copy of what it keeps: should the device be lost, K/V is computed anew. */
  | { readonly type: "snapshot-failed"; readonly error: unknown }
  | { readonly type: "delivery-paused" | "delivery-resumed" };

export interface DeliveryOptions {
  readonly policy: UpgradePolicy;
  readonly onEvent: (event: StageEvent) => void;
}

export interface DeliverOptions {
  /** Index of the last stage wanted; the plan's last one unless given. */
  readonly stage?: number;
  readonly policy?: UpgradePolicy;
  /** What becomes of the K/V below the boundary, of the conversation used last. In mid-answer it is always kept. Default "keep". */
  readonly carry?: KvCarry;
  /** Called for each stage when all that is left is to rebuild K/V and to take over. */
  readonly onPrepared?: (stage: StageInfo) => void;
  readonly signal?: AbortSignal;
}

/** How far somebody wants to go. */
interface Ask {
  readonly stage: number;
  readonly options: DeliverOptions;
  readonly handover: Handover<void>;
}

/** A stage whose bytes come, or that is being moved to. */
interface StageUnderWay {
  readonly index: number;
  /** The first that wanted it: it comes in its way. */
  readonly ask: Ask;
  readonly link: LinkedAbort;
  /** Where its weights go. */
  gpu: Gpu | null;
  /** It is given up, and no failure: whoever wants it from now on gets it from the beginning. */
  isGivenUp: boolean;
  /** It landed, or nothing of it is left. */
  readonly ended: Promise<void>;
  readonly end: () => void;
}

// Devices that may be lost while no stage lands: one that takes the device down each time is given up.
const MAX_LOSSES = 2;

export class Delivery {
  readonly #core: EngineCore;
  readonly #supply: WeightSupply;
  readonly #options: DeliveryOptions;
  /** Those that have not been met, in the order that they came. */
  readonly #asks = new Set<Ask>();
  /** Each builds on those before it. */
  readonly #underWay = new Set<StageUnderWay>();
  #isLoading = false;
  #complete: Promise<void> | null = null;
  /** Index of the last stage whose weights are on the device. */
  #loaded = 0;
  #losses = 0;
  #lastLost: Gpu | null = null;
  #lastFailure: unknown = null;
  /** The furthest of those that failed or were called off, for `resume`. */
  #unmet: (Omit<DeliverOptions, "signal"> & { readonly stage: number }) | null = null;
  #end: unknown = null;

  constructor(core: EngineCore, supply: WeightSupply, options: DeliveryOptions) {
    this.#core = core;
    this.#supply = supply;
    this.#options = options;
  }

  /** Of the last call of `deliver`: resolves when its stage has landed, rejects when that failed or was called off. */
  get complete(): Promise<void> {
    return this.#complete ?? Promise.resolve();
  }

  get isPaused(): boolean {
    return this.#supply.valve.isPaused;
  }

  get lastStage(): number {
    return this.#core.plan.stages.length - 1;
  }

  stageInfo(index: number): StageInfo {
    return stageInfo(this.#core.plan, this.#supply.recipe, index);
  }

  /**
   * Loads the stages up to the one wanted and moves the engine to each. An upgrade that is still under way when the next stage has come is taken
   * into that stage's. Several may ask: a stage comes once, for all who want it, and goes on coming while one of them does. A lost device is
   * outlived.
   *
   * @throws LlmError "bad-request" for no stage of the plan; of the sources, the packer or the device; the signal's reason. The stage that is there
   * by then goes on answering.
   */
  deliver(options: DeliverOptions = {}): Promise<void> {
    const { stage = this.lastStage, signal } = options;
    if (!Number.isInteger(stage) || stage < 0 || stage > this.lastStage) {
      const error = new LlmError("bad-request", `Stage ${stage} is none of the plan's: they are 0 to ${this.lastStage}.`);
      return Promise.reject(error);
    }
    if (this.#end) return Promise.reject(this.#end);
    const ask: Ask = { stage, options, handover: new Handover<void>(undefined) };
    this.#complete = ask.handover.done;
    this.#asks.add(ask);
    if (this.#unmet && this.#unmet.stage <= stage) this.#unmet = null;
    const onAbort = () => void this.#callOff(ask, signal?.reason);
    signal?.addEventListener("abort", onAbort);
    if (signal?.aborted) onAbort();
    const forget = () => signal?.removeEventListener("abort", onAbort);
    ask.handover.done.then(forget, forget);
    this.#meetAsks();
    void this.#load();
    return ask.handover.done;
  }

  /** No byte of a later stage is asked for until `resume`: a metered link, say. What is under way comes to its end. */
  pause(): void {
    if (this.isPaused) return;
    this.#supply.valve.pause();
    this.#options.onEvent({ type: "delivery-paused" });
  }

  /** Goes on after a pause, and tries again what failed or was called off. Where nothing was asked for yet, all is. */
  resume(): void {
    if (this.isPaused) {
      this.#supply.valve.resume();
      this.#options.onEvent({ type: "delivery-resumed" });
    }
    if (this.#unmet) void this.deliver(this.#unmet).catch(() => undefined);
    else if (!this.#complete) void this.deliver().catch(() => undefined);
  }

  /** Ends all reading: the engine is gone. */
  end(reason: unknown): void {
    this.#end = reason;
    for (const { handover } of this.#asks) handover.fail(reason);
    this.#asks.clear();
    for (const { link } of this.#underWay) link.abort(reason);
    this.#supply.end();
  }

  /** The loader's loop: the next stage's bytes come while the K/V of the one before is rebuilt. */
  async #load(): Promise<void> {
    if (this.#isLoading) return;
    this.#isLoading = true;
    for (let stage = this.#nextStage(); stage; stage = this.#nextStage()) {
      this.#underWay.add(stage);
      try {
        const weights = await this.#bring(stage);
        if (!stage.isGivenUp) this.#loaded = stage.index;
        void this.#upgrade(stage, weights);
      } catch (error) {
        await this.#failed(stage, error);
      }
    }
    this.#isLoading = false;
  }

  #nextStage(): StageUnderWay | null {
    const index = Math.max(this.#loaded, this.#core.stage) + 1;
    const ask = [...this.#asks].find(({ stage }) => stage >= index);
    if (!ask) return null;
    let end: () => void = () => undefined;
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    return { index, ask, link: linkAbort(), gpu: null, isGivenUp: false, ended, end };
  }

  async #bring(stage: StageUnderWay): Promise<StageWeights> {
    const { index, link } = stage;
    await this.#core.ready(link.signal);
    const { gpu, model, plan } = this.#core;
    stage.gpu = gpu;
    void gpu.lost.then((info) => link.abort(deviceLostError(info, gpu.adapterName))); // operations on a lost device do not fail by themselves
    return this.#supply.loadNext(plan.stages[index]?.units ?? [], model.weights, link.signal);
  }

  async #upgrade(underWay: StageUnderWay, weights: StageWeights): Promise<void> {
    const { index, ask, link } = underWay;
    const { policy = this.#options.policy, carry = "keep", onPrepared = () => undefined } = ask.options;
    const { onEvent } = this.#options;
    const stage = this.stageInfo(index);
    const tellOf = guardedListener(onPrepared);
    onEvent({ type: "upgrade-start", stage, policy });
    try {
      const report = await this.#core.upgrade({
        ...{ stage: index, weights, policy, carry },
        onPrepared: () => tellOf(stage),
        signal: link.signal,
      });
      this.#landed(underWay, report);
    } catch (error) {
      weights.destroy();
      await this.#failed(underWay, error);
      void this.#load();
    }
  }

  #landed(underWay: StageUnderWay, { stage: reached, ...report }: UpgradeReport): void {
    const { onEvent } = this.#options;
    const stage = this.stageInfo(underWay.index);
    this.#leave(underWay);
    this.#losses = 0;
    if (reached > underWay.index) onEvent({ type: "upgrade-superseded", stage, by: this.stageInfo(reached) });
    else {
      onEvent({ type: "upgrade-end", stage, ...report });
      onEvent({ type: "stage-ready", stage, isLast: underWay.index === this.lastStage });
    }
    this.#meetAsks();
  }

  #meetAsks(): void {
    for (const ask of this.#asks) {
      if (ask.stage > this.#core.stage) continue;
      this.#asks.delete(ask);
      ask.handover.land();
    }
    if (this.#core.stage === this.lastStage) this.#supply.rest();
  }

  /** A stage that did not come, or did not land. Where the device was lost it is tried again on the next one; else all who want it hear of it. */
  async #failed(stage: StageUnderWay, error: unknown): Promise<void> {
    this.#leave(stage);
    if (!stage.isGivenUp) this.#loaded = Math.min(this.#loaded, stage.index - 1);
    if (stage.isGivenUp || (isLoss(error) && (await this.#outlives(stage.gpu)))) return;
    // Later stages build on this one. Of one that took another in, both fail: that is told once.
    const isNews = error !== this.#lastFailure && this.#wants(stage.index);
    this.#lastFailure = error;
    for (const each of this.#underWay) if (each.index >= stage.index) this.#giveUp(each, error);
    const failed = [...this.#asks].filter((ask) => ask.stage >= stage.index);
    for (const ask of failed) {
      this.#asks.delete(ask);
      this.#remember(ask);
    }
    // A listener may ask again at once.
    if (isNews) this.#options.onEvent({ type: "upgrade-failed", stage: this.stageInfo(stage.index), error });
    // Stages below it may still land. Whoever asked hears of the failure when nothing is under way for them.
    void Promise.all([...this.#underWay].map(({ ended }) => ended)).then(() => {
      for (const { handover } of failed) handover.fail(error);
    });
  }

  async #outlives(lost: Gpu | null): Promise<boolean> {
    if (lost !== this.#lastLost) this.#losses++;
    this.#lastLost = lost;
    if (this.#losses > MAX_LOSSES) return false;
    try {
      await this.#core.ready();
      return true;
    } catch {
      return false; // the engine has come to its end, which all hear of
    }
  }

  /** Whoever asked wants it no more. What nobody else wants stops, and is gone when the asker hears of it. */
  async #callOff(ask: Ask, reason: unknown): Promise<void> {
    if (!this.#asks.delete(ask)) return;
    this.#remember(ask);
    const unwanted = [...this.#underWay].filter(({ index }) => !this.#wants(index));
    for (const each of unwanted) this.#giveUp(each, reason);
    await Promise.all(unwanted.map(({ ended }) => ended));
    ask.handover.fail(reason);
  }

  #leave(stage: StageUnderWay): void {
    this.#underWay.delete(stage);
    stage.end();
  }

  #wants(index: number): boolean {
    return [...this.#asks].some(({ stage }) => stage >= index);
  }

  #remember({ stage, options: { signal: _over, ...options } }: Ask): void {
    if ((this.#unmet?.stage ?? -1) <= stage) this.#unmet = { ...options, stage };
  }

  /** It ends soon. Whoever asks from here on has it loaded again, as what comes next builds on it. */
  #giveUp(stage: StageUnderWay, reason: unknown): void {
    stage.isGivenUp = true;
    this.#loaded = Math.min(this.#loaded, stage.index - 1);
    stage.link.abort(reason);
  }
}
