// Brings the later stages while the first one answers: loads them in their order, and hands each to the engine as it comes.
import { abortable, type LinkedAbort, linkAbort } from "../bytes/abort";
import type { ModelRecipe } from "../stages/model-recipe";
import type { Stage, StagePlan } from "../stages/plan";
import type { StageLoader, StageWeights } from "../stages/stage-loader";
import type { KvCarry, UpgradePolicy, UpgradeReport } from "../takeover/upgrader";
import type { EngineCore } from "./engine-core";
import { guardedListener } from "./guarded-listener";

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
  /** All stages have landed, or the engine is gone: nothing is read any more. */
  readonly onEnd: () => void;
}

export interface DeliverOptions {
  /** Index of the last stage wanted; the plan's last one unless given. */
  readonly stage?: number;
  readonly policy?: UpgradePolicy;
  /** What becomes of the active conversation's K/V below the boundary. Default "keep". */
  readonly carry?: KvCarry;
  /** Called for each stage when all that is left is to rebuild K/V and to take over. */
  readonly onPrepared?: (stage: StageInfo) => void;
  readonly signal?: AbortSignal;
}

/** What was asked for. */
type Ask = DeliverOptions & { readonly stage: number };

interface StageUnderWay {
  readonly index: number;
  /** What it comes for. */
  readonly ask: Ask;
  readonly link: LinkedAbort;
}

export class Delivery {
  readonly #core: EngineCore;
  #loader: StageLoader;
  readonly #recipe: ModelRecipe;
  readonly #options: DeliveryOptions;
  readonly #attempts = new Set<LinkedAbort>();
  /** Stages whose bytes come, or that are moved to. Each builds on those before it. */
  readonly #underWay = new Set<StageUnderWay>();
  readonly #upgrades = new Set<Promise<void>>();
  /** Of all that was asked for: its bytes, one stage after the other, and its upgrades. */
  #loading: Promise<void> = Promise.resolve();
  #complete: Promise<void> | null = null;
  /** Index of the last stage whose weights came. */
  #loaded = 0;
  #lastFailure: unknown = null;
  /** What came to no good end, or was called off: what is tried again goes no further. */
  readonly #failed = new Set<Ask>();
  /** Aborts when the engine is gone. */
  readonly #ending = new AbortController();

  constructor(core: EngineCore, loader: StageLoader, recipe: ModelRecipe, options: DeliveryOptions) {
    this.#core = core;
    this.#loader = loader;
    this.#recipe = recipe;
    this.#options = options;
  }

  /** Of the stages asked for so far: resolves when they have landed, rejects when one failed. */
  get complete(): Promise<void> {
    return this.#complete ?? Promise.resolve();
  }

  get isPaused(): boolean {
    return this.#loader.valve.isPaused;
  }

  get lastStage(): number {
    return this.#core.plan.stages.length - 1;
  }

  stageInfo(index: number): StageInfo {
    return stageInfo(this.#core.plan, this.#recipe, index);
  }

  /**
   * Loads stages, after those asked for before, and moves the engine to each. An upgrade that is still under way when the next stage has come is
   * taken into that stage's.
   *
   * @throws LlmError of the sources, the packer or the device; the signal's reason. The stage that is there by then goes on answering.
   */
  deliver(options: DeliverOptions = {}): Promise<void> {
    const complete = this.#deliver({ stage: this.lastStage, ...options });
    complete.catch(() => undefined); // upgrade-failed tells of it as well
    this.#complete = complete;
    return complete;
  }

  /** No byte of a later stage is asked for until `resume`: a metered link, say. What is under way comes to its end. */
  pause(): void {
    if (this.isPaused) return;
    this.#loader.valve.pause();
    this.#options.onEvent({ type: "delivery-paused" });
  }

  /** Goes on after a pause, and tries again after a failure, as far as was asked. Where nothing was yet, all is. */
  resume(): void {
    if (this.isPaused) {
      this.#loader.valve.resume();
      this.#options.onEvent({ type: "delivery-resumed" });
    }
    if (this.#complete) this.#tryAgain(this.#failed);
    else void this.deliver();
  }

  /** The engine is on another device, and what brings stages to it another: what failed with the old one is tried again. */
  goOnWith(loader: StageLoader): void {
    this.#loader = loader;
    const again = () => this.#tryAgain([...this.#failed].filter(({ signal }) => !signal?.aborted));
    this.complete.then(again, again);
  }

  /** Gives up what is under way: its device is gone. `goOnWith` begins it again. */
  interrupt(reason: unknown): void {
    for (const attempt of this.#attempts) attempt.abort(reason);
  }

  /** Ends all reading: the engine is gone. */
  end(reason: unknown): void {
    this.#ending.abort(reason);
    this.interrupt(reason);
    this.#options.onEnd();
  }

  /** Goes as far as the furthest of them was to. */
  #tryAgain(asks: Iterable<Ask>): void {
    const [furthest] = [...asks].sort((a, b) => b.stage - a.stage);
    if (!furthest) return;
    const { signal, ...ask } = furthest;
    void this.deliver(signal?.aborted ? ask : furthest); // what was called off, somebody else wants now
  }

  async #deliver(ask: Ask): Promise<void> {
    this.#ending.signal.throwIfAborted();
    const attempt = linkAbort(ask.signal);
    this.#attempts.add(attempt);
    const before = this.#loading.catch(() => undefined);
    const upgrades: Promise<void>[] = [];
    const loading = before.then(() => this.#loadFor(ask, attempt.signal, upgrades));
    loading.catch(() => undefined); // whoever gave up waiting for it hears of it no more
    this.#loading = loading;
    try {
      await abortable(before, attempt.signal).catch((error: unknown) => {
        this.#failed.add(ask); // before it began
        throw error;
      });
      await loading;
      await abortable(Promise.all(this.#upgrades), attempt.signal);
    } catch (error) {
      await Promise.allSettled(upgrades);
      throw error;
    } finally {
      this.#attempts.delete(attempt);
      attempt.unlink();
    }
    if (this.#core.stage === this.lastStage) this.#options.onEnd();
  }

  /** The next stage's bytes come while the K/V of the one before is rebuilt: an upgrade is not waited for here. */
  async #loadFor(ask: Ask, signal: AbortSignal, upgrades: Promise<void>[]): Promise<void> {
    signal.throwIfAborted();
    for (const failed of this.#failed) if (failed.stage <= ask.stage) this.#failed.delete(failed);
    this.#lastFailure = null;
    while (Math.max(this.#loaded, this.#core.stage) < ask.stage) {
      const stage = { index: Math.max(this.#loaded, this.#core.stage) + 1, ask, link: linkAbort(signal) };
      this.#underWay.add(stage);
      const weights = await this.#load(stage);
      this.#loaded = stage.index;
      const upgrade = this.#upgrade(stage, weights).finally(() => {
        this.#leave(stage);
        this.#upgrades.delete(upgrade);
      });
      upgrade.catch(() => undefined); // `deliver` hears of it when all are over
      this.#upgrades.add(upgrade);
      upgrades.push(upgrade);
    }
  }

  async #load(stage: StageUnderWay): Promise<StageWeights> {
    try {
      const { units = [] } = this.#core.plan.stages[stage.index] ?? {};
      return await this.#loader.loadNext(units, this.#core.model.weights, stage.link.signal);
    } catch (error) {
      this.#fail(stage, error);
      this.#leave(stage);
      throw error;
    }
  }

  async #upgrade(underWay: StageUnderWay, weights: StageWeights): Promise<void> {
    const { index, ask, link } = underWay;
    const stage = this.stageInfo(index);
    const { onEvent } = this.#options;
    const { policy = this.#options.policy, carry = "keep", onPrepared = () => undefined } = ask;
    const tellOf = guardedListener(onPrepared);
    onEvent({ type: "upgrade-start", stage, policy });
    try {
      const { stage: reached, ...report } = await this.#core.upgrade({
        ...{ stage: index, weights, policy, carry },
        onPrepared: () => tellOf(stage),
        signal: link.signal,
      });
      if (reached > index) {
        onEvent({ type: "upgrade-superseded", stage, by: this.stageInfo(reached) });
        return;
      }
      onEvent({ type: "upgrade-end", stage, ...report });
      onEvent({ type: "stage-ready", stage, isLast: index === this.lastStage });
    } catch (error) {
      weights.destroy();
      this.#fail(underWay, error);
      throw error;
    }
  }

  /** Ends the later stages, which build on this one, with it. Those before it go on. */
  #fail({ index, ask, link }: StageUnderWay, error: unknown): void {
    // Of one that took another in, both fail; and nobody is told of what was called off.
    const isNews = !link.signal.aborted && error !== this.#lastFailure;
    this.#lastFailure = error;
    this.#failed.add(ask);
    this.#loaded = Math.min(this.#loaded, index - 1);
    for (const stage of this.#underWay) if (stage.index >= index) stage.link.abort(error);
    if (isNews) this.#options.onEvent({ type: "upgrade-failed", stage: this.stageInfo(index), error });
  }

  #leave(stage: StageUnderWay): void {
    this.#underWay.delete(stage);
    stage.link.unlink();
  }
}
