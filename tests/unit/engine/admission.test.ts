// Which request begins next: first come, first served, but for what would take others down with it or has nothing to run on.
import { describe, expect, test } from "vitest";
import { nextToBegin, type Occupancy, type Waiting } from "../../../src/engine/admission";
import { Sequence } from "../../../src/steps/sequence";

const run = (losses = 0, sequence = new Sequence([])): Waiting => ({ sequence, losses });
const SOLO: Waiting = { sequence: null, losses: 0 };

function choose(waiting: readonly Waiting[], occupancy: Partial<Occupancy> = {}): number {
  return nextToBegin(waiting, { running: [], batchSize: 2, isClosed: false, isBusy: () => false, ...occupancy });
}

test("the first one begins, and nobody where all rows are taken", () => {
  expect(choose([run(), run()])).toBe(0);
  expect(choose([run(), run()], { running: [run()] })).toBe(0);
  expect(choose([run()], { running: [run(), run()] })).toBe(-1);
  expect(choose([])).toBe(-1);
});

test("nobody begins while the engine is closed to new runs", () => {
  expect(choose([run()], { isClosed: true })).toBe(-1);
});

test("a request whose sequence is in use lets the next one begin", () => {
  const busy = new Sequence([]);
  const isBusy = (sequence: Sequence) => sequence === busy;
  expect(choose([run(0, busy), run()], { isBusy })).toBe(1);
  expect(choose([run(0, busy)], { isBusy })).toBe(-1);
});

describe("work that runs alone", () => {
  test("begins when nobody runs", () => {
    expect(choose([SOLO, run()])).toBe(0);
    expect(choose([SOLO, run()], { running: [run()] })).toBe(-1);
  });

  test("is passed by nobody who came later", () => {
    const busy = new Sequence([]);
    const isBusy = (sequence: Sequence) => sequence === busy;
    expect(choose([run(0, busy), SOLO, run()], { running: [run()], isBusy })).toBe(-1);
  });
});

describe("a request that has lost a device", () => {
  test("begins beside those that have got on since", () => {
    expect(choose([run(1), run()], { running: [run()] })).toBe(0);
  });

  test("keeps others out until it has a token", () => {
    expect(choose([run()], { running: [run(1)] })).toBe(-1);
  });
});
