// Long work that lets others run between its slices.
import { expect, test } from "vitest";
import { TimeSlice } from "../../src/time-slice";

function work(ms: number): void {
  for (const end = performance.now() + ms; performance.now() < end; );
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
