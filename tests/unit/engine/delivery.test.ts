// How far stages are brought: as far as was asked, also after a pause, a failure or the loss of a device.
import { expect, test } from "vitest";
import { type DeliverOptions, Delivery, type StageEvent } from "../../../src/engine/delivery";
import type { EngineCore, UpgradeRequest } from "../../../src/engine/engine-core";
import { LoadValve } from "../../../src/stages/load-valve";
import type { ModelRecipe } from "../../../src/stages/model-recipe";
import { type StageLoader, StageWeights } from "../../../src/stages/stage-loader";

const ENOUGH = new Error("enough");
const LOST = new Error("the device was lost");
const settled = () => new Promise((resolve) => setTimeout(resolve, 5));

/** Four stages. Reads fail while there is an error for them, and do not come to an end while they are held. */
function fourStages() {
  const state = { stage: 0, error: null as Error | null, isHeld: false };
  const upgrades: UpgradeRequest[] = [];
  const core = {
    plan: { stages: ["A", "B", "C", "D"].map((name) => ({ name, units: [], quality: null })) },
    get stage() {
      return state.stage;
    },
    model: { weights: null },
    upgrade: async (request: UpgradeRequest) => {
      upgrades.push(request);
      state.stage = request.stage;
      return { stage: request.stage };
    },
  };
  const loader = {
    valve: new LoadValve(),
    loadNext: async (_units: unknown, _outer: unknown, signal: AbortSignal) => {
      if (state.isHeld) await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
      if (state.error) throw state.error;
      return new StageWeights(new Map(), null, []);
    },
  };
  const events: StageEvent[] = [];
  const recipe = { unitBytes: () => 0, otherBytes: 0 };
  const delivery = new Delivery(core as unknown as EngineCore, loader as unknown as StageLoader, recipe as unknown as ModelRecipe, {
    policy: "background",
    onEvent: (event) => events.push(event),
    onEnd: () => undefined,
  });
  return { state, upgrades, events, delivery, loader: loader as unknown as StageLoader };
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
  scene.delivery.goOnWith(scene.loader);
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

test("on another device, what was under way and what waited behind it go as far as was asked", async () => {
  const scene = fourStages();
  scene.state.isHeld = true;
  const asked = [scene.delivery.deliver({ stage: 1 }), scene.delivery.deliver({ stage: 2 })];
  await settled();
  scene.delivery.interrupt(LOST);
  for (const attempt of asked) await expect(attempt).rejects.toBe(LOST);
  scene.state.isHeld = false;
  scene.delivery.goOnWith(scene.loader);
  await settled();
  await expectStays(scene, 2);
});

test("on another device, what was called off is not begun again, and resuming does", async () => {
  const scene = fourStages();
  const abort = new AbortController();
  scene.state.isHeld = true;
  const asked = scene.delivery.deliver({ stage: 2, signal: abort.signal });
  await settled();
  abort.abort(ENOUGH);
  await expect(asked).rejects.toBe(ENOUGH);
  scene.state.isHeld = false;
  scene.delivery.goOnWith(scene.loader);
  await settled();
  expect(scene.state.stage).toBe(0);
  scene.delivery.resume();
  await expectStays(scene, 2);
});

test("what is tried again on another device can still be called off by who asked for it", async () => {
  const scene = fourStages();
  const abort = new AbortController();
  scene.state.isHeld = true;
  const asked = scene.delivery.deliver({ stage: 1, signal: abort.signal });
  await settled();
  scene.delivery.interrupt(LOST);
  await expect(asked).rejects.toBe(LOST);
  scene.delivery.goOnWith(scene.loader);
  await settled();
  abort.abort(ENOUGH);
  await expect(scene.delivery.complete).rejects.toBe(ENOUGH);
  expect(scene.state.stage).toBe(0);
});
