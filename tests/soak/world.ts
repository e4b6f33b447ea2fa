// All that a soak acts on: an engine and its chats, the device and the link under them, and every promise that is still open.
import { type ChatSnapshot, type Engine, type EngineEvent, type LoadOptions, loadEngine } from "../../src/index";
import { type Random, seededRandom } from "../support/random";
import { planFile } from "../support/stage-plans";
import { type Circumstances, errorFaults } from "./invariants";
import { chatContents, type Phase } from "./phases";
import { References } from "./references";
import type { SoakGpu } from "./soak-gpu";
import { SoakLink } from "./soak-link";
import { Talk } from "./talk";

/** More than the rows of a step. */
export const TALK_COUNT = 12;
const MAX_SNAPSHOTS = 6;
const MAX_OPEN = 32;

/** What may explain a failure, as it is when the promise settles. */
export interface Excuses {
  readonly signal?: AbortSignal;
  readonly isGone?: () => boolean;
  readonly hasLeft?: () => boolean;
  readonly provoked?: readonly string[];
}

/** A greedy continuation of ids that are no chat's. */
export interface SpokenIds {
  readonly ids: readonly number[];
  /** Where the continuation begins. */
  readonly start: number;
  /** Of each of its tokens. */
  readonly stages: readonly number[];
}

export interface WorldOptions {
  readonly gpu: SoakGpu;
  /** Whose device, and compiled kernels, the first engine uses. */
  readonly shareDeviceWith: Engine | null;
  /** A promise that is open for longer hangs. */
  readonly patienceMs: number;
  readonly onFault: (fault: string) => void;
}

export class World {
  readonly gpu: SoakGpu;
  readonly talks: (Talk | null)[] = Array.from({ length: TALK_COUNT }, () => null);
  /** They outlive engines, and phases. */
  readonly snapshots: ChatSnapshot[] = [];
  /** Not checked yet. */
  spoken: SpokenIds[] = [];
  /** Of the operation under way. */
  random: Random = seededRandom("");
  /** Whether the engine was told to pause. */
  isPaused = false;
  readonly #options: WorldOptions;
  readonly #open = new Set<Promise<void>>();
  readonly #tokenWaiters = new Set<() => void>();
  #phase: Phase | null = null;
  #link: SoakLink | null = null;
  #engine: Engine | null = null;
  /** Its device is gone, and it has no other yet. */
  #isLost = false;
  /** It gave up getting another. */
  #isDead = false;
  #references: References | null = null;

  constructor(options: WorldOptions) {
    this.#options = options;
    this.gpu = options.gpu;
  }

  get phase(): Phase {
    return ready(this.#phase);
  }

  get link(): SoakLink {
    return ready(this.#link);
  }

  get engine(): Engine {
    return ready(this.#engine);
  }

  get references(): References {
    return ready(this.#references);
  }

  get lastStage(): number {
    return this.phase.stages.length - 1;
  }

  fault(what: string): void {
    this.#options.onFault(what);
  }

  /** An engine of another model, where the one before was. */
  async beginPhase(phase: Phase): Promise<void> {
    await this.#references?.disposeEngines();
    this.#phase = phase;
    this.#link = new SoakLink(phase.family, await chatContents(phase.family));
    const link = this.#link;
    this.#references = new References(phase.stages, (plan, options) => this.#load(link.files(), { plan, ...options }));
    await this.replaceEngine();
  }

  /** Loads another engine of the phase's model, then ends the one that is there with all that it is doing. */
  async replaceEngine(): Promise<void> {
    const { stages, isServed } = this.phase;
    const location = isServed ? this.link.url : this.link.files();
    const { link } = this;
    let engine: Engine | null = null;
    let before = { losses: 0, cuts: 0, isCut: false };
    const onEvent = (event: EngineEvent) => {
      if (engine === null || engine !== this.#engine) return;
      if (event.type === "transcript-rewritten") this.fault("a conversation was encoded anew");
      if (event.type === "device-lost") before = { losses: this.gpu.losses, cuts: link.cuts, isCut: link.isCut };
      if (event.type === "device-restored") this.#isLost = false;
      if (event.type !== "device-recovery-failed") return;
      this.#isDead = true;
      const deviceLost = this.gpu.losses > before.losses;
      const linkCut = before.isCut || link.cuts > before.cuts;
      const circumstances = { signal: null, isGone: false, hasLeft: false, provoked: [], deviceLost, linkCut };
      for (const fault of errorFaults(event.error, circumstances)) this.fault(`no device came back: ${fault}`);
    };
    engine = await this.#load(location, { plan: planFile(stages), onEvent });
    this.#end();
    this.#engine = engine;
    this.#isLost = false;
    this.#isDead = false;
  }

  /** An engine that got no device again is replaced: of what was asked of it nothing can come. */
  async buryDead(): Promise<void> {
    if (!this.#isDead) return;
    this.link.mend();
    await this.replaceEngine();
  }

  /** The device is gone under everything. The engine finds another by itself, the references are loaded anew. */
  async loseDevice(): Promise<void> {
    const references = this.references.disposeEngines();
    this.#isLost = true;
    this.gpu.loseDevices();
    await references;
  }

  /** Everything comes to its end. What then lives is a leak. */
  async end(): Promise<void> {
    this.#end();
    await this.settle();
    await this.#references?.disposeEngines();
  }

  /** The talk in a slot, a new one where there is none or it has become too long to go on. */
  talkIn(slot: number): Talk {
    const there = this.talks[slot];
    if (there && !there.isGone && there.expectedTokens < 200) return there;
    const chat = this.engine.createChat(slot % 3 === 0 ? { system: "Be brief." } : {});
    return this.seat(slot, new Talk(chat));
  }

  seat(slot: number, talk: Talk | null): Talk {
    this.talks[slot]?.dispose();
    this.talks[slot] = talk;
    return talk as Talk;
  }

  keepSnapshot(snapshot: ChatSnapshot): void {
    if (this.snapshots.push(snapshot) > MAX_SNAPSHOTS) this.snapshots.shift();
  }

  /** Waits for `promise` in the background: it must settle in time, and fail only for a reason that the soak gave. */
  track(what: string, promise: Promise<unknown>, excuses: Excuses = {}): void {
    const { engine, gpu, link } = this;
    const before = { losses: gpu.losses, cuts: link.cuts, isCut: link.isCut };
    const circumstances = (): Circumstances => ({
      signal: excuses.signal ?? null,
      isGone: engine !== this.#engine || (excuses.isGone?.() ?? false),
      hasLeft: excuses.hasLeft?.() ?? false,
      deviceLost: this.#isDead || gpu.losses > before.losses,
      linkCut: this.#isDead || before.isCut || link.cuts > before.cuts,
      provoked: excuses.provoked ?? [],
    });
    const settled = promise.then(
      () => undefined,
      (error: unknown) => {
        for (const fault of errorFaults(error, circumstances())) this.fault(`${what}: ${fault}`);
      },
    );
    const open = this.#inTime(what, settled).finally(() => this.#open.delete(open));
    this.#open.add(open);
  }

  /** Resolves when nothing is open any more. */
  async settle(): Promise<void> {
    while (this.#open.size > 0) await Promise.all(this.#open);
  }

  tokenCame(): void {
    for (const proceed of this.#tokenWaiters) proceed();
    this.#tokenWaiters.clear();
  }

  /** Lets what is open go on, for a moment or until somebody's next token; longer where much is open. */
  async breathe(): Promise<void> {
    const token = new Promise<void>((resolve) => this.#tokenWaiters.add(resolve));
    await (this.random.next() < 0.5 ? Promise.race([token, sleep(20)]) : sleep(this.random.integer(6)));
    while (this.#open.size > MAX_OPEN) await Promise.race(this.#open);
  }

  async #load(location: string | ReturnType<SoakLink["files"]>, options: LoadOptions): Promise<Engine> {
    const { link, phase } = this;
    // One device, and its compiled kernels, for all; a new one where the engine waits for another itself.
    const shareDeviceWith = this.#engine ? (this.#isLost ? null : this.#engine) : this.#options.shareDeviceWith;
    return loadEngine(location, {
      ...phase.options,
      ...{ gpu: this.gpu.gpu, fetch: link.fetch, cache: false, tuning: "off", delivery: "manual" },
      ...(shareDeviceWith && { shareDeviceWith }),
      ...{ defaultLimits: true, without: ["subgroup-matrix"] },
      ...options,
    });
  }

  #end(): void {
    for (const talk of this.talks) if (talk) talk.isGone = true;
    this.spoken = [];
    this.talks.fill(null);
    this.isPaused = false;
    const engine = this.#engine;
    this.#engine = null;
    engine?.dispose();
  }

  async #inTime(what: string, settled: Promise<void>): Promise<void> {
    const { patienceMs } = this.#options;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const tooLate = new Promise<void>((resolve) => {
      timer = setTimeout(() => {
        this.fault(`${what}: still open after ${patienceMs / 1000} s`);
        resolve();
      }, patienceMs);
    });
    await Promise.race([settled, tooLate]).finally(() => clearTimeout(timer));
  }
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function ready<T>(value: T | null): T {
  if (value === null) throw new Error("the soak has no phase yet");
  return value;
}
