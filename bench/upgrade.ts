// What does an upgrade cost? Times to snapshot, restore and recompute K/V, and the gaps between tokens under each policy.
import type { EngineCore } from "../src/engine/engine-core";
import type { GpuOptions } from "../src/gpu/device";
import type { ModelFiles } from "../src/repository/model-files";
import type { StageOptions } from "../src/stages/default-plan";
import type { Sequence } from "../src/steps/sequence";
import type { UpgradePolicy } from "../src/takeover/upgrader";
import { wallTime } from "./gpu-time";
import { generate, type LoadedCore, loadCore, testIds } from "./loaded-core";

export interface UpgradeBenchOptions extends GpuOptions {
  /** Length of the conversation when the upgrade begins. */
  readonly contexts?: readonly number[];
  readonly policies?: readonly UpgradePolicy[];
  readonly stageOptions?: StageOptions;
}

export interface CarryTimes {
  readonly context: number;
  readonly layers: number;
  readonly snapshotMs: number;
  readonly restoreMs: number;
  readonly recomputeMs: number;
  readonly restoredBytes: number;
}

export interface UpgradeFeel {
  readonly context: number;
  readonly policy: UpgradePolicy;
  readonly boundary: number;
  readonly upgradeMs: number;
  readonly medianGapMs: number;
  /** The longest gap around the commit: the last tokens of the old stage and the first of the new one. */
  readonly commitGapMs: number;
  /** The longest gap within a second of the new stage's first token. */
  readonly longestGapMs: number;
  /** The longest gaps during the upgrade, with the time since its start at which each ended. */
  readonly gaps: readonly { readonly atMs: number; readonly gapMs: number }[];
  /** From the upgrade's start until everything was allocated and bound. */
  readonly preparedMs: number;
  readonly committedMs: number;
  /** Tokens a second before the upgrade, while K/V was rebuilt, and after. */
  readonly before: number;
  readonly meanwhile: number;
  readonly after: number;
}

// Tokens around the commit that it may delay: steps in flight, and those after.
const COMMIT_BEFORE = 4;
const COMMIT_AFTER = 12;
const DECODED_BEFORE = 64;
const DECODED_AFTER = 64;
// Enough for a background upgrade to finish.
const DECODED_MEANWHILE = 1400;

/** The first stage, with room for the context and the tokens decoded after it. */
async function stagedCore(files: ModelFiles, { stageOptions, ...options }: UpgradeBenchOptions, context: number): Promise<LoadedCore> {
  const contextLength = context + DECODED_BEFORE + DECODED_MEANWHILE + DECODED_AFTER + 64;
  const loaded = await loadCore(files, { ...options, staged: true, contextLength, ...(stageOptions && { stageOptions }) });
  if (loaded.plan.stages.length > 1) return loaded;
  loaded.dispose();
  throw new Error(
    `The default plan of ${files.name} has one stage: nothing to upgrade. Ask for more with {"stageOptions":{"absentLayers":1}}.`,
  );
}

/** Decodes greedily until `onToken` returns false. Returns the time and the stage of each token. */
async function decode(
  core: EngineCore,
  sequence: Sequence,
  maxTokens: number,
  onToken: (count: number, stage: number) => boolean = () => true,
) {
  const tokens: { readonly ms: number; readonly stage: number }[] = [];
  await generate(core, sequence, maxTokens, (_, stage) => {
    tokens.push({ ms: performance.now(), stage });
    return onToken(tokens.length, stage);
  });
  return tokens;
}

const done = (core: EngineCore) => core.gpu.device.queue.onSubmittedWorkDone();

export async function measureCarry(files: ModelFiles, context: number, options: UpgradeBenchOptions = {}): Promise<CarryTimes> {
  const { core, dispose } = await stagedCore(files, options, context);
  try {
    const sequence = core.createSequence();
    sequence.append(testIds(context, core.config.vocabSize));
    await decode(core, sequence, 2); // warm
    let snapshot = await core.snapshot(sequence);
    const snapshotMs = await wallTime(async () => {
      snapshot = await core.snapshot(sequence);
    });
    let restoredBytes = 0;
    const restore = async () => {
      sequence.evict();
      ({ restoredBytes } = await core.restore(sequence, snapshot));
      await done(core);
    };
    await restore();
    const restoreMs = await wallTime(restore);
    const recompute = async () => {
      sequence.evict();
      await decode(core, sequence, 1);
    };
    await recompute();
    const recomputeMs = await wallTime(recompute);
    return { context, layers: core.model.slots.filter(({ program }) => program).length, snapshotMs, restoreMs, recomputeMs, restoredBytes };
  } finally {
    dispose();
  }
}

export async function measureFeel(
  files: ModelFiles,
  context: number,
  policy: UpgradePolicy,
  options: UpgradeBenchOptions = {},
): Promise<UpgradeFeel> {
  const { core, supply, plan, dispose } = await stagedCore(files, options, context);
  try {
    const weights = await supply.loadNext(plan.stages[1]?.units ?? [], core.model.weights, core.life);
    const sequence = core.createSequence();
    sequence.append(testIds(context, core.config.vocabSize));
    await decode(core, sequence, 16);
    let startMs = 0;
    let preparedMs = 0;
    let upgrade: ReturnType<EngineCore["upgrade"]> | undefined;
    let left = DECODED_AFTER;
    const tokens = await decode(core, sequence, DECODED_BEFORE + DECODED_MEANWHILE + DECODED_AFTER, (count, stage) => {
      if (count === DECODED_BEFORE) {
        startMs = performance.now();
        const onPrepared = () => {
          preparedMs = performance.now() - startMs;
        };
        upgrade = core.upgrade({ stage: 1, weights, policy, onPrepared });
      }
      return stage === 0 || --left > 0;
    });
    const report = await upgrade;
    const commitMs = tokens.find(({ stage }) => stage === 1)?.ms ?? Number.POSITIVE_INFINITY;
    const gaps = tokens.slice(1).map(({ ms }, index) => ({ ms, gapMs: ms - (tokens[index]?.ms ?? ms) }));
    const firstNew = Math.max(
      0,
      gaps.findIndex(({ ms }) => ms >= commitMs),
    );
    const longest = (of: readonly { readonly gapMs: number }[]) => Math.max(0, ...of.map(({ gapMs }) => gapMs));
    const sorted = gaps.map(({ gapMs }) => gapMs).sort((a, b) => a - b);
    const rate = (from: number, to: number) => {
      const between = tokens.filter(({ ms }) => ms >= from && ms <= to);
      const span = (between.at(-1)?.ms ?? 0) - (between[0]?.ms ?? 0);
      return span > 0 ? (1000 * (between.length - 1)) / span : 0;
    };
    return {
      ...{ context, policy },
      boundary: report?.boundary ?? 0,
      upgradeMs: report?.upgradeMs ?? 0,
      medianGapMs: sorted[Math.floor(sorted.length / 2)] ?? 0,
      commitGapMs: longest(gaps.slice(Math.max(0, firstNew - COMMIT_BEFORE), firstNew + COMMIT_AFTER)),
      gaps: gaps
        .filter(({ ms }) => ms > startMs)
        .sort((a, b) => b.gapMs - a.gapMs)
        .slice(0, 6)
        .map(({ ms, gapMs }) => ({ atMs: ms - startMs, gapMs })),
      ...{ preparedMs, committedMs: commitMs - startMs },
      longestGapMs: longest(gaps.filter(({ ms }) => Math.abs(ms - commitMs) <= 1000)),
      before: rate(0, startMs),
      meanwhile: rate(startMs, commitMs),
      after: rate(commitMs, Number.POSITIVE_INFINITY),
    };
  } finally {
    dispose();
  }
}

export async function measureUpgrade(files: ModelFiles, options: UpgradeBenchOptions = {}) {
  const { contexts = [200, 1024, 4096], policies = ["background", "blocking"] } = options;
  const carry: CarryTimes[] = [];
  const feel: UpgradeFeel[] = [];
  for (const context of contexts) {
    carry.push(await measureCarry(files, context, options));
    for (const policy of policies) feel.push(await measureFeel(files, context, policy, options));
  }
  return { model: files.name, userAgent: globalThis.navigator?.userAgent ?? "Node", carry, feel };
}
