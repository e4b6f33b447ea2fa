// Upgrades that are called off, disposed of or fail while K/V is rebuilt beside the stage that answers: that goes on as if they had never begun,
// conversations stay what they are, and the next attempt lands (I12).
import { describe, expect, test } from "vitest";
import type { EngineCore } from "../../src/engine/engine-core";
import type { UpgradePolicy } from "../../src/index";
import type { Sequence } from "../../src/steps/sequence";
import { replaceMethod } from "../support/device-faults";
import { expectLlmError } from "../support/expect-llm-error";
import { FAILING_CASE, FailingUpgrades, failuresTold, reasonOf, type Sight } from "../support/failing-upgrades";
import { DRAWN, expectGoesOn, holdIdleWork, idleSequence, isMidway, withStaged } from "../support/staged-conversations";
import { without } from "../support/staged-engine";
import { continueSequence, generateAfresh, type StagedCore } from "../support/test-core";
import { readGolden } from "../support/test-model";

const upgrades = new FailingUpgrades([without(6, 1, 2), without(6)]);
const { ids } = await readGolden(`tests/golden/${FAILING_CASE}`);
const ENOUGH = new Error("enough");

async function expectNeverBegun({ core, engine }: StagedCore, before: Sight, sequences: readonly Sequence[]): Promise<void> {
  expect(core.stage).toBe(0);
  for (const { nextParts, cachedLength } of sequences) expect([nextParts, cachedLength > 0]).toEqual([null, true]);
  expect(await upgrades.look(core)).toEqual(before);
  for (const sequence of sequences) await expectGoesOn(core, sequence);
  await upgrades.expectLands(engine);
  for (const sequence of sequences) await expectGoesOn(core, sequence);
}

/** An answer in which `abort` is called once `isTime`; it ends soon after, and must be what the stage that answers says. */
async function answerUntilAborted(core: EngineCore, sequence: Sequence, abort: AbortController, isTime: () => boolean): Promise<void> {
  const before = [...sequence.tokens];
  let left = 6;
  const onToken = () => {
    if (!abort.signal.aborted && isTime()) abort.abort(ENOUGH);
    return !abort.signal.aborted || --left > 0;
  };
  await continueSequence(core, sequence, { maxTokens: 80, onToken, ...DRAWN });
  const said = sequence.tokens.slice(before.length);
  expect(said).toEqual(await generateAfresh(core, before, { maxTokens: said.length, ...DRAWN }));
}

describe("an upgrade that is aborted", () => {
  /** Starts an answer with the upgrade ready, and aborts that when `isTime`; the answer must be the old stage's from end to end. */
  async function abortInAnswer(missing: readonly number[], policy: UpgradePolicy, isTime: (sequence: Sequence) => boolean): Promise<void> {
    await withStaged([missing], async (staged) => {
      const { core, engine, events } = staged;
      const before = await upgrades.look(core);
      const sequence = await idleSequence(core, ids.slice(0, 40));
      const abort = new AbortController();
      let answer: Promise<unknown> | undefined;
      const onPrepared = () => {
        answer = answerUntilAborted(core, sequence, abort, () => isTime(sequence));
      };
      expect(await reasonOf(engine.upgrade({ policy, signal: abort.signal, onPrepared }))).toBe(ENOUGH);
      await answer;
      await expectNeverBegun(staged, before, [sequence]);
      expect(failuresTold(events)).toEqual([]);
    });
  }

  test.each(["background", "turn-boundary"] as const)("in the middle of a rebuild during an answer leaves no trace (%s)", (policy) =>
    abortInAnswer([1, 2], policy, isMidway),
  );

  test("when all is rebuilt and only the end of the turn is waited for leaves no trace", () =>
    // One layer, which is done before the first token comes.
    abortInAnswer([5], "turn-boundary", (sequence) => sequence.nextParts !== null && !isMidway(sequence)));

  test("under the policy blocking, while it waits for tokens that are under way, leaves no trace", async () => {
    // From ids on, so that it cannot be done before they are known.
    await withStaged([[0, 1]], async (staged) => {
      const { core } = staged;
      const before = await upgrades.look(core);
      const weights = await staged.load(1);
      const abort = new AbortController();
      const sequence = await idleSequence(core, ids.slice(0, 20));
      let upgrade: Promise<unknown> | undefined;
      await answerUntilAborted(core, sequence, abort, () => {
        upgrade ??= reasonOf(core.upgrade({ stage: 1, weights, policy: "blocking", signal: abort.signal }));
        return sequence.nextParts !== null;
      });
      expect(await upgrade).toBe(ENOUGH);
      weights.destroy();
      await expectNeverBegun(staged, before, [sequence]);
    });
  });

  test("between two chunks of an idle conversation leaves no trace", async () => {
    await withStaged(
      [[1, 2]],
      async (staged) => {
        const { core, engine } = staged;
        const before = await upgrades.look(core);
        const sequence = await idleSequence(core, ids.slice(0, 60));
        const abort = new AbortController();
        const idle = holdIdleWork(core);
        const upgrade = engine.upgrade({ signal: abort.signal });
        await idle.reached;
        expect(isMidway(sequence)).toBe(true);
        abort.abort(ENOUGH);
        idle.letGo();
        expect(await reasonOf(upgrade)).toBe(ENOUGH);
        await expectNeverBegun(staged, before, [sequence]);
      },
      { chunkRows: 16 },
    );
  });

  // It went on with buffers that were gone, and what it left in the conversation was taken for the next upgrade's.
  test("while kernels for missing residuals are made leaves no trace", async () => {
    await withStaged([[1, 2]], async (staged) => {
      const { core, engine } = staged;
      const before = await upgrades.look(core);
      const sequence = await idleSequence(core, ids.slice(0, 60));
      const [front] = sequence.parts;
      front?.restored(front.cachedLength, 0);
      const abort = new AbortController();
      const restore = replaceMethod(core.model, "prepareReread", (prepare) => (...place) => {
        restore();
        abort.abort(ENOUGH);
        return prepare(...place);
      });
      expect(await reasonOf(engine.upgrade({ signal: abort.signal }))).toBe(ENOUGH);
      await core.alone(async () => undefined);
      await expectNeverBegun(staged, before, [sequence]);
    });
  });
});

describe("the engine's disposal in the middle of a rebuild", () => {
  test("during an answer ends both and leaves nothing", async () => {
    await withStaged([[1, 2]], async ({ core, engine, events }) => {
      const sequence = await idleSequence(core, ids.slice(0, 40));
      const onToken = () => {
        if (isMidway(sequence)) engine.dispose();
        return true;
      };
      let answer: Promise<unknown> = Promise.resolve();
      const onPrepared = () => {
        answer = reasonOf(continueSequence(core, sequence, { maxTokens: 30, onToken }));
      };
      await expectLlmError(engine.upgrade({ onPrepared }), "disposed");
      expect(await answer).toMatchObject({ code: "disposed" });
      expect(core.memory()).toMatchObject({ total: 0, bufferCount: 0 });
      expect(failuresTold(events)).toEqual([]);
    });
  });

  test("of an idle conversation ends it and leaves nothing", async () => {
    await withStaged(
      [[1, 2]],
      async ({ core, engine, events }) => {
        const sequence = await idleSequence(core, ids.slice(0, 60));
        const idle = holdIdleWork(core);
        const upgrade = reasonOf(engine.upgrade());
        await idle.reached;
        expect(isMidway(sequence)).toBe(true);
        engine.dispose();
        idle.letGo();
        expect(await upgrade).toMatchObject({ code: "disposed" });
        expect(core.memory()).toMatchObject({ total: 0, bufferCount: 0 });
        expect(failuresTold(events)).toEqual([]);
      },
      { chunkRows: 16 },
    );
  });
});

test.each(["background", "turn-boundary"] as const)(
  "a conversation that is given up in the middle of its rebuild leaves nothing, and the upgrade lands (%s)",
  async (policy) => {
    await withStaged([[1, 2]], async ({ core, engine }) => {
      const sequence = await idleSequence(core, ids.slice(0, 40));
      const abort = new AbortController();
      const onToken = () => {
        if (isMidway(sequence)) abort.abort(ENOUGH);
        return true;
      };
      let answer: Promise<unknown> = Promise.resolve();
      const onPrepared = () => {
        answer = reasonOf(continueSequence(core, sequence, { maxTokens: 30, onToken, signal: abort.signal }));
        void answer.then(() => core.releaseSequence(sequence));
      };
      await engine.upgrade({ policy, onPrepared });
      expect(await answer).toBe(ENOUGH);
      const { memory } = await upgrades.look(core);
      await upgrades.expectLands(engine);
      for (const { group } of core.createSequence().parts) expect(group.pool.freeCount).toBe(group.pool.pageCount);
      await withStaged([[1, 2]], async (other) => {
        await other.engine.upgrade();
        expect(memory).toEqual(other.core.memory());
      });
    });
  },
);

// It ended the answer that met it, and each later one that did.
test("a kernel of the rebuild that does not compile ends the upgrade, and not the answer that meets it", async () => {
  await withStaged([[1, 2]], async (staged) => {
    const { core, engine, events } = staged;
    const before = await upgrades.look(core);
    const sequence = await idleSequence(core, ids.slice(0, 60));
    const expected = await generateAfresh(core, sequence.tokens, { maxTokens: 6, ...DRAWN });
    const [front] = sequence.parts;
    front?.restored(front.cachedLength, 0);
    const mend = replaceMethod(core.model, "prepareReread", () => () => Promise.reject(ENOUGH));
    let answer: Promise<unknown> | undefined;
    const onPrepared = () => {
      answer = continueSequence(core, sequence, { maxTokens: 6, ...DRAWN });
    };
    expect(await reasonOf(engine.upgrade({ onPrepared }).finally(mend))).toBe(ENOUGH);
    await answer;
    expect(sequence.tokens.slice(-6)).toEqual(expected);
    expect(failuresTold(events)).toEqual([[1, ENOUGH]]);
    await expectNeverBegun(staged, before, [sequence]);
  });
});

describe("a full pool of pages", () => {
  test("has room for the rebuild of the active conversation, and those that give way are exact when they go on", async () => {
    await withStaged(
      [[5]],
      async ({ core, engine }) => {
        const active = await idleSequence(core, ids.slice(0, 30));
        const others = [await idleSequence(core, ids.slice(10, 54)), await idleSequence(core, ids.slice(20, 64))];
        const [part] = active.parts;
        expect(part?.group.pool.freeCount).toBe(0);
        const stages = new Set<number>();
        const onToken = (_: number, stage: number) => stages.add(stage).size > 0;
        let answer: Promise<unknown> | undefined;
        const onPrepared = () => {
          answer = continueSequence(core, active, { maxTokens: 20, onToken, ...DRAWN });
        };
        await engine.upgrade({ onPrepared });
        await answer;
        expect(stages).toEqual(new Set([0, 1]));
        await upgrades.expectLands(engine);
        for (const sequence of [active, ...others]) await expectGoesOn(core, sequence);
      },
      { poolLength: 128 },
    );
  });

  test("whose pages conversations share lands all the same, though the new pools cannot hold each of them apart", async () => {
    await withStaged(
      [[5]],
      async ({ core, engine }) => {
        const sequences: Sequence[] = [];
        for (const id of [3, 4]) sequences.push(await idleSequence(core, [...ids.slice(0, 64), id]));
        const [first] = sequences;
        let said = 0;
        const onToken = () => ++said > 0;
        let answers: readonly Promise<unknown>[] = [];
        const onPrepared = () => {
          answers = sequences.map((sequence) => continueSequence(core, sequence, { maxTokens: 24, onToken, ...DRAWN }));
        };
        await engine.upgrade({ policy: "turn-boundary", onPrepared });
        await Promise.all(answers);
        expect([said, first?.nextParts]).toEqual([48, null]);
        await upgrades.expectLands(engine);
        for (const sequence of sequences) await expectGoesOn(core, sequence);
      },
      { poolLength: 128, prefixCache: true },
    );
  });
});
