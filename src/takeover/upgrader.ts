// The upgrade under way, if there is one, and who works on it: the run that has the engine's turn, or nobody, and then it takes turns itself.
import { StageWeights } from "../stages/stage-loader";
import type { StepNote } from "../steps/result-ring";
import type { Sequence } from "../steps/sequence";
import { RebuildPacer } from "./rebuild-pacer";
import type { Upgrade } from "./upgrade";
import { type ChunkSizes, type UpgradePolicy, UpgradeRun } from "./upgrade-run";

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
  /** What became of the K/V below the boundary of the conversation that was active. In mid-answer it is always kept. */
  readonly carry: KvCarry;
  /** Copied back from CPU memory for it. */
  readonly restoredBytes: number;
  /** From weights on the GPU to the new stage answering. */
  readonly upgradeMs: number;
}

/** Carries a sequence's K/V over, after a commit between two runs or chunks. */
export type CarryOver = (carry: KvCarry) => Promise<Pick<UpgradeReport, "carry" | "restoredBytes">>;

export interface UpgraderHost {
  readonly takeTurn: (turn: () => Promise<void>) => Promise<void>;
  /** Resolves when the GPU has done what is submitted. */
  readonly idle: () => Promise<unknown>;
  /** The sequence that was used last, if one has K/V. */
  readonly lastUsed: () => Sequence | null;
  readonly committed: (upgrade: Upgrade) => void;
  readonly chunks: ChunkSizes;
}

export interface UpgradeRunOptions {
  readonly policy: UpgradePolicy;
  readonly carry: KvCarry;
  /** All is allocated and bound; what is left is to rebuild and to commit. */
  readonly onPrepared: (boundary: number) => void;
  readonly signal: AbortSignal;
}

interface Pending {
  readonly run: UpgradeRun;
  readonly carry: KvCarry;
  readonly startMs: number;
  readonly settled: Promise<UpgradeReport>;
  resolve(report: UpgradeReport): void;
  reject(reason: unknown): void;
}

const KEPT = { carry: "keep", restoredBytes: 0 } as const;

export type StepVerdict = { readonly type: "wait" } | { readonly type: "go" | "committed"; readonly slices: number };

export class Upgrader {
  readonly #host: UpgraderHost;
  readonly #pacer: RebuildPacer;
  #pending: Pending | null = null;
  /** Upgrades are made ready one after the other. */
  #preparing: Promise<void> = Promise.resolve();

  constructor(host: UpgraderHost) {
    this.#host = host;
    this.#pacer = new RebuildPacer(host.chunks.vectorRows);
  }

  /**
   * Prepares an upgrade and sees it through. One that is under way is taken into it.
   *
   * @throws what `prepare` throws, the signal's reason; the weights are then the caller's, and what was taken in goes on as it was.
   */
  async run(
    prepare: (weights: StageWeights) => Promise<Upgrade>,
    weights: StageWeights,
    { policy, carry, onPrepared, signal }: UpgradeRunOptions,
  ): Promise<UpgradeReport> {
    const startMs = performance.now();
    const begin = (upgrade: Upgrade) => newPending(new UpgradeRun(upgrade, policy, this.#host.chunks, this.#pacer), carry, startMs);
    const preparing = this.#preparing.then(() => this.#prepare(prepare, weights, begin, signal));
    // The next one builds on what this one leaves behind, whichever way it ends.
    this.#preparing = preparing.then(
      () => undefined,
      () => undefined,
    );
    const pending = await preparing;
    onPrepared(pending.run.upgrade.boundary);
    const onAbort = () => this.#fail(pending, signal.reason);
    signal.addEventListener("abort", onAbort);
    if (signal.aborted) onAbort();
    void this.#workWhileIdle(pending);
    try {
      return await pending.settled;
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  /** Before a run, in its turn. */
  async beforeRun(sequence: Sequence, carryOver: CarryOver): Promise<void> {
    const pending = this.#pending;
    if (!pending) return;
    if (await this.#isReady(pending, () => pending.run.isReadyAtStart(sequence))) await this.#commitAndCarry(pending, carryOver);
  }

  beforeStep(sequence: Sequence, position: number): StepVerdict {
    const pending = this.#pending;
    if (!pending) return { type: "go", slices: 0 };
    const verdict = pending.run.beforeStep(sequence, position);
    if (verdict === "wait") return { type: "wait" };
    if (verdict === "commit") pending.resolve({ ...this.#commit(pending), ...KEPT });
    return { type: verdict === "commit" ? "committed" : "go", slices: pending.run.takeSlices() };
  }

  /** Between two chunks of an evaluation. */
  async betweenChunks(sequence: Sequence, carryOver: CarryOver): Promise<void> {
    const pending = this.#pending;
    if (!pending || pending.run.policy === "turn-boundary") return;
    const work = async () =>
      pending.run.policy === "blocking"
        ? await pending.run.isReadyAtStart(sequence)
        : // Two for each chunk that is evaluated: one would never catch up.
          (await pending.run.advanceIdle(sequence)) || (await pending.run.advanceIdle(sequence));
    if (await this.#isReady(pending, work)) await this.#commitAndCarry(pending, carryOver);
  }

  readonly tokenCame = (intervalMs: number, { slices }: StepNote): void => this.#pacer.tokenCame(intervalMs, slices);

  /** Makes an upgrade ready for the stage that answers by then, with what one that is under way would have brought, and puts it in that one's place. */
  async #prepare(
    prepare: (weights: StageWeights) => Promise<Upgrade>,
    weights: StageWeights,
    begin: (upgrade: Upgrade) => Pending,
    signal: AbortSignal,
  ): Promise<Pending> {
    for (;;) {
      signal.throwIfAborted();
      const earlier = this.#pending;
      const upgrade = await prepare(earlier ? merged(earlier.run.upgrade.weights, weights) : weights);
      if (signal.aborted || this.#pending !== earlier) {
        // The earlier one came to its end meanwhile: this one was made ready for a stage that is no more.
        upgrade.abandon();
        continue;
      }
      earlier?.run.upgrade.abandon();
      const pending = begin(upgrade);
      if (earlier) pending.settled.then(earlier.resolve, earlier.reject);
      this.#pending = pending;
      return pending;
    }
  }

  async #workWhileIdle(pending: Pending): Promise<void> {
    const turn = async () => {
      if (this.#pending !== pending) return;
      const sequence = this.#host.lastUsed();
      if (sequence && !(await pending.run.advanceIdle(sequence))) return;
      if (this.#pending === pending) pending.resolve({ ...this.#commit(pending), ...KEPT });
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

  /** Whether the upgrade may be committed after `work` on it. What fails in that ends the upgrade, and not the run that did it. */
  async #isReady(pending: Pending, work: () => Promise<boolean>): Promise<boolean> {
    try {
      return (await work()) && this.#pending === pending;
    } catch (error) {
      this.#fail(pending, error);
      return false;
    }
  }

  async #commitAndCarry(pending: Pending, carryOver: CarryOver): Promise<void> {
    const report = this.#commit(pending);
    try {
      pending.resolve({ ...report, ...(await carryOver(pending.carry)) });
    } catch (error) {
      // The stage has landed; what the run misses of its K/V it computes, if it goes on at all.
      pending.resolve({ ...report, ...KEPT });
      throw error;
    }
  }

  #commit(pending: Pending): Omit<UpgradeReport, "carry" | "restoredBytes"> {
    this.#pending = null;
    const { upgrade, policy } = pending.run;
    upgrade.commit();
    this.#host.committed(upgrade);
    return {
      stage: upgrade.step.to,
      boundary: upgrade.boundary,
      policy,
      recomputedPositions: upgrade.rebuild?.recomputed ?? 0,
      rereadPositions: upgrade.rebuild?.reread ?? 0,
      upgradeMs: performance.now() - pending.startMs,
    };
  }

  #fail(pending: Pending, reason: unknown): void {
    if (this.#pending !== pending) return;
    this.#pending = null;
    pending.run.upgrade.abandon();
    pending.reject(reason);
  }
}

function newPending(run: UpgradeRun, carry: KvCarry, startMs: number): Pending {
  let resolve: Pending["resolve"] = () => undefined;
  let reject: Pending["reject"] = () => undefined;
  const settled = new Promise<UpgradeReport>((resolveIt, rejectIt) => {
    resolve = resolveIt;
    reject = rejectIt;
  });
  settled.catch(() => undefined); // whoever asked hears of it
  return { run, carry, startMs, settled, resolve, reject };
}

function merged(earlier: StageWeights, later: StageWeights): StageWeights {
  return new StageWeights(new Map([...earlier.layers, ...later.layers]), earlier.outer ?? later.outer, [...earlier.rows, ...later.rows]);
}
