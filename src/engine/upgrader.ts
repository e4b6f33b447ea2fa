// The upgrade under way, if there is one, and who works on it: the run that has the engine's turn, or nobody, and then it takes turns itself.
import { StageWeights } from "../stages/stage-loader";
import { RebuildPacer } from "./rebuild-pacer";
import type { StepNote } from "./result-ring";
import type { Sequence } from "./sequence";
import type { Upgrade } from "./upgrade";
import { type UpgradePolicy, UpgradeRun } from "./upgrade-run";

export type { UpgradePolicy } from "./upgrade-run";

/**
 * - `keep`: its pages stay where they are; no byte moves.
 * - `restore`: it goes to CPU memory and comes back into other pages, by copying alone.
 * - `recompute`: it is computed anew from the token ids.
 */
export type KvCarry = "keep" | "restore" | "recompute";

/** How an upgrade went. */
export interface UpgradeReport {
  /** Index of the plan's stage that answers now. */
  readonly stage: number;
  /** K/V of layers below it was kept, with no byte moved. */
  readonly boundary: number;
  readonly policy: UpgradePolicy;
  /** Positions whose K/V was computed anew from the boundary on, before the commit. Idle conversations follow when they are next used. */
  readonly recomputedPositions: number;
  /** Of these, positions that had to go through lower layers again: no residual was there. */
  readonly rereadPositions: number;
  /** From weights on the GPU to the new stage answering. */
  readonly upgradeMs: number;
}

export interface UpgraderHost {
  readonly takeTurn: (turn: () => Promise<void>) => Promise<void>;
  /** Resolves when the GPU has done what is submitted. */
  readonly idle: () => Promise<unknown>;
  /** The sequence that was used last, if one has K/V. */
  readonly lastUsed: () => Sequence | null;
  readonly committed: (upgrade: Upgrade) => void;
  readonly chunkRows: number;
}

export interface UpgradeRunOptions {
  readonly policy: UpgradePolicy;
  /** All is allocated and bound; what is left is to rebuild and to commit. */
  readonly onPrepared: () => void;
  readonly signal: AbortSignal;
}

interface Pending {
  readonly run: UpgradeRun;
  readonly startMs: number;
  readonly settled: Promise<UpgradeReport>;
  resolve(report: UpgradeReport): void;
  reject(reason: unknown): void;
}

export type StepVerdict = { readonly type: "wait" } | { readonly type: "go" | "committed"; readonly slices: number };

export class Upgrader {
  readonly #host: UpgraderHost;
  readonly #pacer = new RebuildPacer();
  #pending: Pending | null = null;

  constructor(host: UpgraderHost) {
    this.#host = host;
  }

  /**
   * Prepares an upgrade and sees it through. One that is under way is taken into it.
   *
   * @throws what `prepare` throws, the signal's reason; the weights are then the caller's, and what was taken in goes on as it was.
   */
  async run(
    prepare: (weights: StageWeights) => Promise<Upgrade>,
    weights: StageWeights,
    { policy, onPrepared, signal }: UpgradeRunOptions,
  ): Promise<UpgradeReport> {
    const startMs = performance.now();
    const earlier = this.#pending;
    const upgrade = await prepare(earlier ? merged(earlier.run.upgrade.weights, weights) : weights);
    if (signal.aborted) {
      upgrade.abandon();
      throw signal.reason;
    }
    if (earlier && this.#pending !== earlier) {
      // The earlier one was committed meanwhile, and this one made ready for a stage that is no more.
      upgrade.abandon();
      return this.run(prepare, weights, { policy, onPrepared, signal });
    }
    earlier?.run.upgrade.abandon();
    const pending = newPending(new UpgradeRun(upgrade, policy, this.#host.chunkRows, this.#pacer), startMs);
    if (earlier) pending.settled.then(earlier.resolve, earlier.reject);
    this.#pending = pending;
    onPrepared();
    const onAbort = () => this.#fail(pending, signal.reason);
    signal.addEventListener("abort", onAbort);
    void this.#workWhileIdle(pending);
    try {
      return await pending.settled;
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  /** Before a run, in its turn. */
  async beforeRun(sequence: Sequence): Promise<void> {
    const pending = this.#pending;
    if (!pending) return;
    const isReady = await pending.run.isReadyAtStart(sequence);
    if (isReady && this.#pending === pending) this.#commit(pending);
  }

  beforeStep(sequence: Sequence, position: number): StepVerdict {
    const pending = this.#pending;
    if (!pending) return { type: "go", slices: 0 };
    const verdict = pending.run.beforeStep(sequence, position);
    if (verdict === "wait") return { type: "wait" };
    if (verdict === "commit") this.#commit(pending);
    return { type: verdict === "commit" ? "committed" : "go", slices: pending.run.takeSlices() };
  }

  /** Between two chunks of an evaluation; true when the new stage took over. */
  async betweenChunks(sequence: Sequence): Promise<boolean> {
    const pending = this.#pending;
    if (!pending || pending.run.policy === "turn-boundary") return false;
    const isReady =
      pending.run.policy === "blocking"
        ? await pending.run.isReadyAtStart(sequence)
        : // Two for each chunk that is evaluated: one would never catch up.
          (await pending.run.advanceIdle(sequence)) || (await pending.run.advanceIdle(sequence));
    if (!isReady || this.#pending !== pending) return false;
    this.#commit(pending);
    return true;
  }

  readonly tokenCame = (intervalMs: number, { slices }: StepNote): void => this.#pacer.tokenCame(intervalMs, slices);

  async #workWhileIdle(pending: Pending): Promise<void> {
    const turn = async () => {
      if (this.#pending !== pending) return;
      const sequence = this.#host.lastUsed();
      if (sequence && !(await pending.run.advanceIdle(sequence))) return;
      if (this.#pending === pending) this.#commit(pending);
    };
    try {
      while (this.#pending === pending) {
        await this.#host.takeTurn(turn);
        await this.#host.idle();
      }
    } catch (error) {
      this.#fail(pending, error);
    }
  }

  #commit(pending: Pending): void {
    this.#pending = null;
    const { upgrade, policy } = pending.run;
    upgrade.commit();
    this.#host.committed(upgrade);
    pending.resolve({
      stage: upgrade.step.to,
      boundary: upgrade.boundary,
      policy,
      recomputedPositions: upgrade.rebuild?.recomputed ?? 0,
      rereadPositions: upgrade.rebuild?.reread ?? 0,
      upgradeMs: performance.now() - pending.startMs,
    });
  }

  #fail(pending: Pending, reason: unknown): void {
    if (this.#pending !== pending) return;
    this.#pending = null;
    pending.run.upgrade.abandon();
    pending.reject(reason);
  }
}

function newPending(run: UpgradeRun, startMs: number): Pending {
  let resolve: Pending["resolve"] = () => undefined;
  let reject: Pending["reject"] = () => undefined;
  const settled = new Promise<UpgradeReport>((resolveIt, rejectIt) => {
    resolve = resolveIt;
    reject = rejectIt;
  });
  settled.catch(() => undefined); // whoever asked hears of it
  return { run, startMs, settled, resolve, reject };
}

function merged(earlier: StageWeights, later: StageWeights): StageWeights {
  return new StageWeights(new Map([...earlier.layers, ...later.layers]), earlier.outer ?? later.outer, [...earlier.rows, ...later.rows]);
}
