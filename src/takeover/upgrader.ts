// The upgrade under way, if there is one: it is prepared, merged with earlier requests, and committed when the engine's loop finds it ready.
import { StageWeights } from "../stages/stage-loader";
import type { Sequence } from "../steps/sequence";
import { Handover } from "./handover";
import { RebuildPacer } from "./rebuild-pacer";
import type { Upgrade } from "./upgrade";
import { type ActiveRow, type ChunkSizes, type UpgradePolicy, UpgradeRun } from "./upgrade-run";

export type { UpgradePolicy } from "./upgrade-run";

/**
 * - `keep`: its pages stay where they are; no byte moves.
 * - `restore`: it is copied to CPU memory and back into other pages.
 * - `recompute`: it is recomputed from the token ids.
 */
export type KvCarry = "keep" | "restore" | "recompute";

/** The outcome of an upgrade. */
export interface UpgradeReport {
  /** Index of the plan's stage that answers now. */
  readonly stage: number;
  /** K/V of the layers below this one was kept in place. */
  readonly boundary: number;
  readonly policy: UpgradePolicy;
  /** Positions whose K/V was recomputed from the boundary on, before the commit. Idle conversations follow when they are next used. */
  readonly recomputedPositions: number;
  /** The positions among them that had to go through lower layers again, because no residual was recorded. */
  readonly rereadPositions: number;
  /** The outcome for the K/V below the boundary of the conversation used last. In mid-answer it is always kept. */
  readonly carry: KvCarry;
  /** Bytes copied back from CPU memory for it. */
  readonly restoredBytes: number;
  /** From weights on the GPU to the new stage answering. */
  readonly upgradeMs: number;
}

export type Carried = Pick<UpgradeReport, "carry" | "restoredBytes">;

export const KEPT: Carried = { carry: "keep", restoredBytes: 0 };

export interface UpgradeAsk {
  /** All weights of the new stage that the current one lacks. */
  readonly weights: StageWeights;
  /** Prepares the upgrade with these weights and those of the requests that it takes in. */
  readonly prepare: (weights: StageWeights) => Promise<Upgrade>;
  readonly policy: UpgradePolicy;
  readonly carry: KvCarry;
  /** Everything is allocated and bound; only the rebuild and the commit are left. */
  readonly onPrepared: (boundary: number) => void;
}

interface Asked extends UpgradeAsk {
  readonly startMs: number;
  readonly handover: Handover<UpgradeReport>;
}

interface Pending {
  readonly run: UpgradeRun;
  /** The requests that it serves, oldest first. The last one sets the policy; the earlier ones land with it. */
  readonly asks: readonly Asked[];
  readonly newest: Asked;
}

/** A commit that has been made. */
export interface Landing {
  readonly carry: KvCarry;
  /** Resolves the requests that it served. */
  settle(carried: Carried): void;
}

export type StepVerdict = { readonly type: "wait" } | { readonly type: "go" | "commit"; readonly slices: number };

export class Upgrader {
  readonly #chunks: ChunkSizes;
  readonly #onPending: () => void;
  readonly #pacer: RebuildPacer;
  #pending: Pending | null = null;
  /** Upgrades are prepared one after the other, because each builds on the result of the one before. */
  #preparing: Promise<unknown> = Promise.resolve();

  /** `onPending` is called when there is an upgrade to work on. */
  constructor(chunks: ChunkSizes, onPending: () => void) {
    this.#chunks = chunks;
    this.#onPending = onPending;
    this.#pacer = new RebuildPacer(chunks.vectorRows);
  }

  /**
   * Prepares an upgrade, merging the one under way into it, and resolves when it has landed.
   *
   * @throws the error of `prepare`, or the signal's reason. The weights then belong to the caller again, and merged requests go on by themselves.
   */
  async run(ask: UpgradeAsk, signal: AbortSignal): Promise<UpgradeReport> {
    const handover = new Handover<UpgradeReport>(signal, (reason) => this.#without(asked, reason));
    const asked: Asked = { ...ask, startMs: performance.now(), handover };
    await this.#enqueue(asked).catch((error: unknown) => handover.fail(error));
    return handover.done;
  }

  get hasPending(): boolean {
    return this.#pending !== null;
  }

  /** Whether the upgrade only waits for a pause between answers. No further answer should begin before it. */
  get awaitsPause(): boolean {
    return this.#pending?.run.awaitsPause ?? false;
  }

  /** Does some work before a decode step of these rows. "commit": the caller must commit before it submits the step. */
  beforeStep(rows: readonly ActiveRow[]): StepVerdict {
    const pending = this.#pending;
    if (!pending) return { type: "go", slices: 0 };
    const type = pending.run.beforeStep(rows);
    return type === "wait" ? { type } : { type, slices: pending.run.takeSlices() };
  }

  /** Whether the upgrade can be committed before an answer of `sequence` begins, while nothing else runs. */
  isReadyAtStart(sequence: Sequence): Promise<boolean> {
    return this.#isReady(({ run }) => run.isReadyAtStart(sequence));
  }

  /** The same between two chunks of an evaluation. Also does some work on the upgrade. */
  isReadyBetweenChunks(sequence: Sequence): Promise<boolean> {
    return this.#isReady(async ({ run }) => {
      if (run.policy === "turn-boundary") return false;
      if (run.policy === "blocking") return run.isReadyAtStart(sequence);
      // Two chunks for each evaluated one: with one it would never catch up.
      return (await run.advanceIdle(sequence)) || (await run.advanceIdle(sequence));
    });
  }

  /** Computes a chunk while nothing runs. Returns whether the upgrade can be committed now. */
  advanceIdle(sequence: Sequence | null): Promise<boolean> {
    return this.#isReady(async ({ run }) => sequence === null || (await run.advanceIdle(sequence)));
  }

  readonly tokenCame = (intervalMs: number, slices: number): void => this.#pacer.tokenCame(intervalMs, slices);

  /** Puts the stage in place. Null if there is no upgrade any more. */
  commit(): Landing | null {
    const pending = this.#pending;
    if (!pending) return null;
    this.#pending = null;
    const { upgrade } = pending.run;
    const { policy, carry, startMs } = pending.newest;
    upgrade.commit();
    const report = {
      stage: upgrade.step.to,
      boundary: upgrade.boundary,
      policy,
      recomputedPositions: upgrade.rebuild?.recomputed ?? 0,
      rereadPositions: upgrade.rebuild?.reread ?? 0,
      upgradeMs: performance.now() - startMs,
    };
    return {
      carry,
      settle: (carried) => {
        for (const { handover } of pending.asks) handover.land({ ...report, ...carried });
      },
    };
  }

  /** Abandons the upgrade under way, because its base is gone. */
  fail(reason: unknown): void {
    const pending = this.#pending;
    if (!pending) return;
    this.#pending = null;
    pending.run.upgrade.abandon();
    for (const { handover } of pending.asks) handover.fail(reason);
  }

  #enqueue(asked: Asked): Promise<void> {
    const prepared = this.#preparing.then(() => this.#prepare(asked));
    this.#preparing = prepared.catch(() => undefined);
    return prepared;
  }

  /** Prepares an upgrade from the stage that answers by then. It replaces the one under way. */
  async #prepare(asked: Asked): Promise<void> {
    for (;;) {
      if (asked.handover.isOver) return;
      const earlier = this.#pending;
      const asks = [...(earlier?.asks ?? []), asked];
      const upgrade = await asked.prepare(merged(asks.map(({ weights }) => weights)));
      if (asked.handover.isOver || this.#pending !== earlier) {
        // It was called off, or the earlier upgrade has ended: its base stage is no longer there.
        upgrade.abandon();
        continue;
      }
      earlier?.run.upgrade.abandon();
      this.#pending = { run: new UpgradeRun(upgrade, asked.policy, this.#chunks, this.#pacer), asks, newest: asked };
      asked.onPrepared(upgrade.boundary);
      this.#onPending();
      return;
    }
  }

  /** Goes on without a request that was called off, and without requests that build on it. */
  #without(asked: Asked, reason: unknown): void {
    const pending = this.#pending;
    const index = pending?.asks.indexOf(asked) ?? -1;
    if (!pending || index < 0) return;
    this.#pending = null;
    pending.run.upgrade.abandon();
    for (const { handover } of pending.asks.slice(index)) handover.fail(reason);
    const rest = pending.asks.slice(0, index);
    const newest = rest.at(-1);
    if (!newest) return;
    // The earlier requests were ready once. They are prepared again by themselves.
    this.#preparing = this.#preparing.then(() => this.#prepareAgain(rest, newest));
  }

  async #prepareAgain(rest: readonly Asked[], newest: Asked): Promise<void> {
    for (const asked of rest) {
      try {
        await this.#prepare(asked === newest ? asked : { ...asked, onPrepared: () => undefined });
      } catch (error) {
        asked.handover.fail(error);
      }
    }
  }

  /** An error in the work on an upgrade ends the upgrade, not the run that did the work. */
  async #isReady(work: (pending: Pending) => Promise<boolean>): Promise<boolean> {
    const pending = this.#pending;
    if (!pending) return false;
    try {
      return (await work(pending)) && this.#pending === pending;
    } catch (error) {
      if (this.#pending === pending) this.fail(error);
      return false;
    }
  }
}

function merged(all: readonly StageWeights[]): StageWeights {
  const [only] = all;
  if (only && all.length === 1) return only;
  return new StageWeights(
    new Map(all.flatMap(({ layers }) => [...layers])),
    all.find(({ outer }) => outer)?.outer ?? null,
    all.flatMap(({ rows }) => rows),
  );
}
