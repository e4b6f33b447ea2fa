// A stage that comes while the one before it is made ready or rebuilt takes that one in. What fails then ends what builds on it, and nothing else.
import { describe, expect, test, vi } from "vitest";
import type { StageInfo } from "../../src/index";
import type { Sequence } from "../../src/steps/sequence";
import { failAllocations, replaceMethod } from "../support/device-faults";
import { FAILING_CASE, FailingUpgrades, failuresTold, reasonOf, type Sight } from "../support/failing-upgrades";
import { FaultyFiles, overlap } from "../support/faulty-files";
import { DRAWN, expectGoesOn, gate, holdIdleWork, idleSequence, isMidway, withStaged } from "../support/staged-conversations";
import { without } from "../support/staged-engine";
import { generateAfresh, type StagedCore } from "../support/test-core";
import { readGolden } from "../support/test-model";

const MISSING = [[1, 2], [2]];
const upgrades = new FailingUpgrades([...MISSING.map((layers) => without(6, ...layers)), without(6)]);
const { ids } = await readGolden(`tests/golden/${FAILING_CASE}`);
const ENOUGH = new Error("enough");
// An idle conversation is rebuilt in several chunks.
const OPTIONS = { chunkRows: 16 };
const policy = "background";

interface Scene extends StagedCore {
  readonly sequence: Sequence;
  readonly before: Sight;
  readonly files: FaultyFiles;
}

/** A conversation that is idle while an engine moves through three stages. */
async function withScene(use: (scene: Scene) => Promise<void>): Promise<void> {
  const files = await FaultyFiles.of(FAILING_CASE);
  await withStaged(
    MISSING,
    async (staged) => {
      const before = await upgrades.look(staged.core);
      const sequence = await idleSequence(staged.core, ids.slice(0, 60));
      await use({ ...staged, sequence, before, files });
    },
    OPTIONS,
    files,
  );
}

async function expectNeverBegun({ core, engine, before, sequence }: Scene): Promise<void> {
  expect([core.stage, sequence.nextParts]).toEqual([0, null]);
  expect(await upgrades.look(core)).toEqual(before);
  await expectGoesOn(core, sequence);
  await upgrades.expectLands(engine);
  await expectGoesOn(core, sequence);
}

/** The first upgrade landed, and the second does when it is asked for again. */
async function expectFirstLanded({ core, engine, sequence }: Scene): Promise<void> {
  expect(core.stage).toBe(1);
  await expectGoesOn(core, sequence);
  await upgrades.expectLands(engine);
  await expectGoesOn(core, sequence);
}

describe("an upgrade that comes while the one before it", () => {
  test("is made ready takes it in, and both land", async () => {
    await withScene(async ({ core, load, sequence, engine }) => {
      const [first, second] = [await load(1), await load(2)];
      const idle = holdIdleWork(core); // else the first may land while the second is made ready
      const onPrepared = idle.letGo;
      const both = [core.upgrade({ stage: 1, weights: first, policy }), core.upgrade({ stage: 2, weights: second, policy, onPrepared })];
      expect((await Promise.all(both)).map(({ stage }) => stage)).toEqual([2, 2]);
      await upgrades.expectLands(engine);
      await expectGoesOn(core, sequence);
    });
  });

  test("cannot be made ready fails alike", async () => {
    await withScene(async (scene) => {
      const { core, engine, events } = scene;
      const restore = replaceMethod(core.model, "prepareLayer", () => async () => {
        restore();
        const started = () => events.filter(({ type }) => type === "upgrade-start").length;
        await vi.waitFor(() => expect(started()).toBe(2));
        throw ENOUGH;
      });
      const both = [engine.upgrade({ stage: 1 }), engine.upgrade()].map(reasonOf);
      expect(await Promise.all(both)).toEqual([ENOUGH, ENOUGH]);
      expect(failuresTold(events)).toEqual([[1, ENOUGH]]);
      await expectNeverBegun(scene);
    });
  });

  // Both failed, though only one had been called off.
  test("is called off in the middle of its rebuild lands all the same", async () => {
    await withScene(async (scene) => {
      const { core, engine, events, sequence } = scene;
      const idle = holdIdleWork(core);
      const abort = new AbortController();
      const first = reasonOf(engine.upgrade({ stage: 1, signal: abort.signal }));
      await idle.reached;
      expect(isMidway(sequence)).toBe(true);
      const restore = replaceMethod(core.model, "prepareLayer", (prepare) => (...layer) => {
        restore();
        abort.abort(ENOUGH);
        return prepare(...layer);
      });
      const second = engine.upgrade();
      expect(await first).toBe(ENOUGH);
      idle.letGo();
      await second;
      expect(failuresTold(events)).toEqual([]);
      expect(core.stage).toBe(2);
      await expectGoesOn(core, sequence);
    });
  });

  test("is rebuilt and then fails, having taken that one in, ends both, and one failure is told", async () => {
    await withScene(async (scene) => {
      const { core, engine, events, sequence } = scene;
      const [front] = sequence.parts;
      front?.restored(front.cachedLength, 0);
      const taken = gate();
      let calls = 0;
      const restore = replaceMethod(core.model, "prepareReread", (prepare) => async (...layer) => {
        if (++calls > 1) throw ENOUGH;
        await taken.opened;
        return prepare(...layer);
      });
      const onPrepared = ({ index }: StageInfo) => {
        if (index === 2) taken.open();
      };
      expect(await reasonOf(engine.upgrade({ onPrepared }).finally(restore))).toBe(ENOUGH);
      expect(failuresTold(events).map(([, error]) => error)).toEqual([ENOUGH]);
      await expectNeverBegun(scene);
    });
  });

  // It took the first one with it.
  test("is rebuilt and is called off once it has taken that one in leaves that one to land", async () => {
    await withScene(async (scene) => {
      const { core, load, sequence } = scene;
      const [first, second] = [await load(1), await load(2)];
      const idle = holdIdleWork(core);
      const abort = new AbortController();
      const earlier = core.upgrade({ stage: 1, weights: first, policy });
      await idle.reached;
      expect(isMidway(sequence)).toBe(true);
      const onPrepared = () => abort.abort(ENOUGH);
      expect(await reasonOf(core.upgrade({ stage: 2, weights: second, policy, onPrepared, signal: abort.signal }))).toBe(ENOUGH);
      second.destroy();
      idle.letGo();
      expect(await earlier).toMatchObject({ stage: 1 });
      await expectFirstLanded(scene);
    });
  });
});

describe("while the first stage is in the middle of its rebuild, a second one", () => {
  /** `fault` makes it fail; gives what the engine's attempt at both failed with. */
  async function secondFails(scene: Scene, fault: (scene: Scene) => Promise<() => void>): Promise<unknown> {
    const { core, engine, events, sequence } = scene;
    const idle = holdIdleWork(core);
    const mend = gate();
    const attempt = reasonOf(engine.upgrade());
    await idle.reached;
    expect(isMidway(sequence)).toBe(true);
    void mend.opened.then(await fault(scene));
    await vi.waitFor(() => expect(failuresTold(events).length).toBe(1));
    mend.open();
    idle.letGo();
    const error = await attempt;
    expect(failuresTold(events)).toEqual([[2, error]]);
    return error;
  }

  // It took the first one with it, whose bytes had all come.
  test("whose bytes do not come leaves the first to land", async () => {
    await withScene(async (scene) => {
      const { files } = scene;
      const range = await files.rangeOf("model.layers.2.self_attn.v_proj.weight");
      const rangeRead = gate();
      files.onRead = async (asked) => {
        if (!overlap(asked, range)) return;
        await rangeRead.opened;
        throw ENOUGH;
      };
      const error = await secondFails(scene, async () => {
        rangeRead.open();
        return () => {
          files.onRead = () => undefined;
        };
      });
      expect(error).toBe(ENOUGH);
      await expectFirstLanded(scene);
    });
  });

  test("without memory for its K/V leaves the first to land", async () => {
    await withScene(async (scene) => {
      const { files } = scene;
      const range = await files.rangeOf("model.layers.2.self_attn.v_proj.weight");
      const rangeRead = gate();
      files.onRead = async (asked) => {
        if (overlap(asked, range)) await rangeRead.opened;
      };
      const error = await secondFails(scene, async () => {
        const mend = failAllocations(upgrades.device, /^layer 2 keys/);
        rangeRead.open();
        return mend;
      });
      expect(error).toMatchObject({ code: "out-of-memory" });
      await expectFirstLanded(scene);
    });
  });

  test("that its caller gives up leaves the first to land, and nobody is told", async () => {
    await withScene(async (scene) => {
      const { core, engine, events, files } = scene;
      const range = await files.rangeOf("model.layers.2.self_attn.v_proj.weight");
      const abort = new AbortController();
      files.onRead = (asked) => {
        if (overlap(asked, range)) abort.abort(ENOUGH);
      };
      const idle = holdIdleWork(core);
      const first = engine.upgrade({ stage: 1 });
      await idle.reached;
      const given = [engine.upgrade({ signal: abort.signal }), engine.upgrade({ stage: 1, signal: abort.signal })];
      // Who gives up does not wait for those who do not.
      expect(await Promise.all(given.map(reasonOf))).toEqual([ENOUGH, ENOUGH]);
      idle.letGo();
      await first;
      files.onRead = () => undefined;
      expect(failuresTold(events)).toEqual([]);
      await expectFirstLanded(scene);
    });
  });
});

// What had been built for the one was taken for a part of the other, in groups of other layers.
test("a conversation that one upgrade left in the middle of its rebuild is exact after the next", async () => {
  await withScene(async ({ core, engine, sequence }) => {
    const idle = holdIdleWork(core);
    const first = engine.upgrade({ stage: 1 });
    await idle.reached;
    expect(isMidway(sequence)).toBe(true);
    // Another conversation is where the first one lands.
    await generateAfresh(core, ids.slice(0, 5), { maxTokens: 12, ...DRAWN });
    idle.letGo();
    await first;
    expect(core.stage).toBe(1);
    await upgrades.expectLands(engine);
    await expectGoesOn(core, sequence);
  });
});
