// Reads that can wait do wait while the valve is closed, and continue when it opens.
import { expect, test } from "vitest";
import { LoadValve } from "../../../src/stages/load-valve";

/** Whether a read that starts now may continue. */
async function passes(valve: LoadValve): Promise<boolean> {
  let hasPassed = false;
  void valve.pass().then(() => {
    hasPassed = true;
  });
  await new Promise((resolve) => setTimeout(resolve));
  return hasPassed;
}

test("a pause or any hold closes the valve, and it opens when all have ended", async () => {
  const valve = new LoadValve();
  expect(await passes(valve)).toBe(true);
  const [first, second] = [valve.hold(), valve.hold()];
  valve.pause();
  valve.pause();
  const waiting = valve.pass();
  first();
  first();
  expect(await passes(valve)).toBe(false);
  valve.resume();
  expect(await passes(valve)).toBe(false);
  second();
  await waiting;
  expect(await passes(valve)).toBe(true);
});

test("a waiting read ends when its signal aborts", async () => {
  const valve = new LoadValve();
  valve.pause();
  const ending = new AbortController();
  const waiting = valve.pass(ending.signal);
  ending.abort(new Error("enough"));
  await expect(waiting).rejects.toThrow("enough");
});

test("a valve that closes again before a read has continued still holds the read", async () => {
  const valve = new LoadValve();
  valve.pause();
  const waiting = valve.pass().then(() => "passed");
  valve.resume();
  valve.pause();
  expect(await Promise.race([waiting, new Promise((resolve) => setTimeout(() => resolve("held"), 5))])).toBe("held");
  valve.resume();
  expect(await waiting).toBe("passed");
});
