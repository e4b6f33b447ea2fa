// Long work that lets others run between its slices.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { TimeSlice } from "../../src/time-slice";

// A clock of our own: a busy machine may take a slice's time between any two lines.
beforeEach(() => void vi.useFakeTimers({ toFake: ["performance"] }));
afterEach(() => void vi.useRealTimers());

function work(ms: number): void {
  vi.advanceTimersByTime(ms);
}

test("a slice is over when its time has gone by, and the next one is not", async () => {
  const slice = new TimeSlice();
  expect(slice.isOver).toBe(false);
  work(20);
  expect(slice.isOver).toBe(true);
  await slice.next();
  expect(slice.isOver).toBe(false);
});

test("other tasks run between two slices", async () => {
  let hasRun = false;
  setTimeout(() => {
    hasRun = true;
  });
  const slice = new TimeSlice();
  for (let round = 0; round < 20; round++) await Promise.resolve();
  expect(hasRun).toBe(false); // promises alone let no task in
  for (let round = 0; round < 10; round++) {
    work(1);
    await slice.next();
  }
  expect(hasRun).toBe(true);
});

test("no slice follows an abort", async () => {
  const reason = new Error("enough");
  await expect(new TimeSlice(AbortSignal.abort(reason)).next()).rejects.toBe(reason);
});
