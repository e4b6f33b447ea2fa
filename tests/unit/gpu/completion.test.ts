// A device that tells of finished work every 100 ms only (Firefox) is waited for as if it told at once; others get nothing in between.
import { afterEach, describe, expect, test } from "vitest";
import { Completion } from "../../../src/gpu/completion";
import { MAP_MODE } from "../../../src/gpu/webgpu-flags";
import { pollForWork } from "../../support/device-faults";
import { type FakeDevice, fakeDevice } from "../../support/fake-device";

const stops: (() => void)[] = [];

afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

function polled(fake: FakeDevice) {
  const polling = pollForWork(fake.device);
  stops.push(polling.stop);
  return polling;
}

async function elapsedMs(act: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await act();
  return performance.now() - start;
}

const buffer = ({ device }: FakeDevice) => device.createBuffer({ size: 16, usage: 0 });

describe("on a device that polls", () => {
  test("twenty waits one after another take less than two looks do", async () => {
    const fake = fakeDevice();
    polled(fake);
    const completion = await Completion.of(fake.device);
    expect(completion.polls).toBe(true);
    const staging = buffer(fake);
    const waitsMs = await elapsedMs(async () => {
      for (let round = 0; round < 10; round++) {
        await completion.workDone();
        await completion.mapped(staging, MAP_MODE.READ);
      }
    });
    expect(waitsMs).toBeLessThan(200);
  });

  test("the work's own time is waited for, however many looks it takes", async () => {
    const fake = fakeDevice({ workMs: 30 });
    polled(fake);
    const completion = await Completion.of(fake.device);
    expect(completion.polls).toBe(true);
    const waitMs = await elapsedMs(() => completion.workDone());
    expect(waitMs).toBeGreaterThan(25);
    expect(waitMs).toBeLessThan(80);
  });

  test("it is found to poll where the machine was busy for a moment", async () => {
    const fake = fakeDevice();
    let waits = 0;
    const late = [1, 2, 3]; // one that is measured without empty submits, and the first two with them
    fake.device.queue.onSubmittedWorkDone = async () => {
      if (late.includes(waits++)) await new Promise((resolve) => setTimeout(resolve, 70));
      return undefined;
    };
    polled(fake);
    expect((await Completion.of(fake.device)).polls).toBe(true);
  });

  test("nothing is submitted while nobody waits, nor after the device was lost", async () => {
    const fake = fakeDevice();
    const { emptySubmits } = polled(fake);
    const completion = await Completion.of(fake.device);
    await completion.workDone();
    const before = emptySubmits();
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(emptySubmits() - before).toBeLessThanOrEqual(1); // the one that was under way
    fake.lose("gone");
    await Promise.resolve();
    const atLoss = emptySubmits();
    void completion.workDone();
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(emptySubmits()).toBe(atLoss);
  });

  test("a mapping that fails rejects as it would without the empty submits", async () => {
    const fake = fakeDevice();
    polled(fake);
    const completion = await Completion.of(fake.device);
    const broken = { size: 4, mapAsync: () => Promise.reject(new Error("destroyed meanwhile")) } as unknown as GPUBuffer;
    await expect(completion.mapped(broken, MAP_MODE.READ)).rejects.toThrow("destroyed meanwhile");
  });
});

describe("a device gets no empty submits that", () => {
  test.each([
    ["tells at once", 0],
    ["takes a while", 20],
    ["is slow", 70],
  ])("%s", async (_, workMs) => {
    const fake = fakeDevice({ workMs });
    const completion = await Completion.of(fake.device);
    expect(completion.polls).toBe(false);
    let submits = 0;
    fake.device.queue.submit = () => {
      submits++;
    };
    await completion.workDone();
    expect(submits).toBe(0);
  });
});

test("a device that is lost while it is measured ends the measuring", async () => {
  const fake = fakeDevice();
  fake.device.queue.onSubmittedWorkDone = () => new Promise(() => undefined);
  const measured = Completion.of(fake.device);
  fake.lose("at birth");
  expect((await measured).polls).toBe(false);
});
