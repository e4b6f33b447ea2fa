// Conversations of an engine that moves from stage to stage, caught in the middle of their rebuild.
import { expect } from "vitest";
import type { EngineCore } from "../../src/engine/engine-core";
import type { EngineOptions, ModelFiles } from "../../src/index";
import type { Sequence } from "../../src/steps/sequence";
import { replaceMethod } from "./device-faults";
import { FAILING_CASE } from "./failing-upgrades";
import { planFile } from "./stage-plans";
import { STAGED_OPTIONS, without } from "./staged-engine";
import { continueSequence, generateAfresh, loadStagedCore, type StagedCore } from "./test-core";

const LAYER_COUNT = 6;
// Room for a conversation and for those that it is compared with: none is evicted.
const POOL_LENGTH = 512;

/** Wrong K/V shows in what is drawn sooner than in first choices. */
export const DRAWN = { temperature: 1.5, seed: 7 };

/** Stages that lack layers, and then the whole model. */
export async function withStaged(
  missing: readonly (readonly number[])[],
  use: (staged: StagedCore) => Promise<void>,
  options: EngineOptions = {},
  files: string | ModelFiles = `tests/golden/${FAILING_CASE}`,
): Promise<void> {
  const stages = [...missing.map((layers) => without(LAYER_COUNT, ...layers)), without(LAYER_COUNT)];
  const staged = await loadStagedCore(files, planFile(stages), { ...STAGED_OPTIONS, poolLength: POOL_LENGTH, ...options });
  try {
    await use(staged);
  } finally {
    staged.dispose();
  }
}

export function sequenceOf(core: EngineCore, tokens: readonly number[]): Sequence {
  const sequence = core.createSequence();
  sequence.append(tokens);
  return sequence;
}

/** A conversation that has K/V and is idle. */
export async function idleSequence(core: EngineCore, tokens: readonly number[]): Promise<Sequence> {
  const sequence = sequenceOf(core, tokens);
  await continueSequence(core, sequence, { maxTokens: 2 });
  return sequence;
}

/** Whether a rebuild has begun for the sequence, and is not done. */
export function isMidway({ nextParts, tokens }: Sequence): boolean {
  return nextParts !== null && (nextParts.at(-1)?.cachedLength ?? 0) < tokens.length - 16;
}

/** The conversation must go on as one would of which nothing is cached. */
export async function expectGoesOn(core: EngineCore, sequence: Sequence): Promise<void> {
  const before = [...sequence.tokens];
  await continueSequence(core, sequence, { maxTokens: 4, ...DRAWN });
  expect(sequence.tokens.slice(before.length)).toEqual(await generateAfresh(core, before, { maxTokens: 4, ...DRAWN }));
}

/** Holds up what works on an upgrade between two runs, after its first chunk. */
export function holdIdleWork(core: EngineCore): { readonly reached: Promise<void>; readonly letGo: () => void } {
  const reached = gate();
  const held = gate();
  const restore = replaceMethod(core.gpu.device.queue, "onSubmittedWorkDone", (done) => async () => {
    restore();
    reached.open();
    await held.opened;
    return done();
  });
  return { reached: reached.opened, letGo: held.open };
}

export function gate(): { readonly opened: Promise<void>; readonly open: () => void } {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}
