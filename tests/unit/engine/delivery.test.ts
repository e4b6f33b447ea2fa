// How far stages are brought: as far as was asked, also after a pause, a failure or the loss of a device.
import { expect, test } from "vitest";
import { type DeliverOptions, Delivery, type StageEvent } from "../../../src/engine/delivery";
import type { EngineCore, UpgradeRequest } from "../../../src/engine/engine-core";
import type { WeightSupply } from "../../../src/engine/weight-supply";
import { LlmError } from "../../../src/errors";
import { LoadValve } from "../../../src/stages/load-valve";
import type { ModelRecipe } from "../../../src/stages/model-recipe";
import { StageWeights } from "../../../src/stages/stage-loader";

const ENOUGH = new Error("enough");
const LOST = new LlmError("device-lost", "it fell down");
const settled = () => new Promise((resolve) => setTimeout(resolve, 5));

/** Four stages. Reads fail while there is an error for them, and do not come to an end while they are held. */
function fourStages() {
  const state = { stage: 0, error: null as Error | null, isHeld: false, isRecovering: null as Promise<void> | null };
  const upgrades: UpgradeRequest[] = [];
  const core = {
    plan: { stages: ["A", "B", "C", "D"].map((name) => ({ name, units: [], quality: null })) },
    get stage() {
      return state.stage;
    },
    model: { weights: null },
    gpu: { lost: new Promise(() => undefined) },
    ready: async () => {
      await state.isRecovering;
    },
    upgrade: async (request: UpgradeRequest) => {
      upgrades.push(request);
      state.stage = request.stage;
      return { stage: request.stage };
    },
  };
  const loads: number[] = [];
  const supply = {
    valve: new LoadValve(),
    recipe: { unitBytes: () => 0, otherBytes: 0 } as unknown as ModelRecipe,
    rest: () => undefined,
    loadNext: async (_units: unknown, _outer: unknown, signal: AbortSignal) => {
      loads.push(state.stage + 1);
      if (state.isHeld) await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
      if (state.error) throw state.error;
      return new StageWeights(new Map(), null, []);
    },
  };
  const events: StageEvent[] = [];
  const delivery = new Delivery(core as unknown as EngineCore, supply as unknown as WeightSupply, {
    policy: "background",
    onEvent: (event) => events.push(event),
  });
  return { core, state, upgrades, loads, events, delivery };
}

type Scene = ReturnType<typeof fourStages>;

/** Asks, and fails. */
async function failed({ delivery, state }: Scene, ...asked: readonly DeliverOptions[]): Promise<void> {
  state.error = ENOUGH;
  for (const options of asked) await expect(delivery.deliver(options)).rejects.toBe(ENOUGH);
  state.error = null;
}

async function expectStays({ delivery, state }: Scene, stage: number): Promise<void> {
  await delivery.complete;
  await settled();
  expect(state.stage).toBe(stage);
}

test("resuming where nothing was asked brings all stages", async () => {
  const scene = fourStages();
  scene.delivery.resume();
  await expectStays(scene, 3);
});

// It went on to the last stage.
test("resuming after a failure goes as far as was asked, in the way that was asked", async () => {
  const scene = fourStages();
  await failed(scene, { stage: 1, policy: "blocking", carry: "restore" });
  scene.delivery.resume();
  await expectStays(scene, 1);
  expect(scene.upgrades).toMatchObject([{ stage: 1, policy: "blocking", carry: "restore" }]);
  scene.delivery.resume();
  await expectStays(scene, 1);
});

test("resuming after several failures goes to the furthest stage that was asked", async () => {
  const scene = fourStages();
  await failed(scene, { stage: 2 }, { stage: 1 });
  scene.delivery.resume();
  await expectStays(scene, 2);
});

test("a failure that was made good is not tried again", async () => {
  const scene = fourStages();
  await failed(scene, { stage: 2 });
  await scene.delivery.deliver({ stage: 2 });
  const { complete } = scene.delivery;
  scene.delivery.resume();
  await expectStays(scene, 2);
  expect(scene.delivery.complete).toBe(complete);
});

test("resuming after a pause goes on with what was asked, and no further", async () => {
  const scene = fourStages();
  await scene.delivery.deliver({ stage: 1 });
  scene.delivery.pause();
  scene.delivery.resume();
  await expectStays(scene, 1);
});

/** The device is lost while a stage's bytes come. Gives the function that says that another one answers. */
function lose({ state }: Scene): () => void {
  let recovered: () => void = () => undefined;
  state.error = LOST;
  state.isRecovering = new Promise((resolve) => {
    recovered = () => {
      state.error = null;
      resolve();
    };
  });
  return recovered;
}

test("a lost device is outlived: nobody who asked hears of it", async () => {
  const scene = fourStages();
  const recovered = lose(scene);
  const asked = [scene.delivery.deliver({ stage: 1 }), scene.delivery.deliver({ stage: 2 })];
  await settled();
  expect(scene.state.stage).toBe(0);
  recovered();
  await Promise.all(asked);
  expect(scene.state.stage).toBe(2);
  expect(scene.events.filter(({ type }) => type === "upgrade-failed")).toEqual([]);
});

test("a device that is lost each time ends in the loss", async () => {
  const scene = fourStages();
  scene.state.error = LOST;
  Object.defineProperty(scene.core, "gpu", { get: () => ({ lost: new Promise(() => undefined) }) }); // another one each time
  await expect(scene.delivery.deliver({ stage: 2 })).rejects.toBe(LOST);
  expect(scene.loads.length).toBeLessThanOrEqual(3);
});

// Both failed, though the first had not been called off.
test("calling one ask off leaves another, which may be on its way to the same stages", async () => {
  const scene = fourStages();
  const abort = new AbortController();
  const first = scene.delivery.deliver({ stage: 1, signal: abort.signal });
  const second = scene.delivery.deliver({ stage: 2 });
  abort.abort(ENOUGH);
  await expect(first).rejects.toBe(ENOUGH);
  await second;
  expect(scene.state.stage).toBe(2);
});

// It failed with the reason that the first one was called off for.
test("who asks for a stage while it is being given up gets it", async () => {
  const scene = fourStages();
  const abort = new AbortController();
  scene.state.isHeld = true;
  const first = scene.delivery.deliver({ stage: 1, signal: abort.signal });
  await settled();
  abort.abort(ENOUGH);
  scene.state.isHeld = false;
  const second = scene.delivery.deliver({ stage: 1 });
  await expect(first).rejects.toBe(ENOUGH);
  await second;
  expect(scene.state.stage).toBe(1);
});

test("what nobody wants any more is not read on, and resuming brings it", async () => {
  const scene = fourStages();
  const abort = new AbortController();
  scene.state.isHeld = true;
  const asked = scene.delivery.deliver({ stage: 2, signal: abort.signal });
  await settled();
  abort.abort(ENOUGH);
  await expect(asked).rejects.toBe(ENOUGH);
  scene.state.isHeld = false;
  await settled();
  expect(scene.state.stage).toBe(0);
  expect(scene.events.filter(({ type }) => type === "upgrade-failed")).toEqual([]);
  scene.delivery.resume();
  await expectStays(scene, 2);
});

test.each([4, -1, 1.5, Number.NaN])("stage %s of four is refused", async (stage) => {
  const scene = fourStages();
  await expect(scene.delivery.deliver({ stage })).rejects.toMatchObject({
    code: "bad-request",
    message: expect.stringContaining("0 to 3"),
  });
});
