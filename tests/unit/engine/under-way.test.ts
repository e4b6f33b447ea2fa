// Steps are settled in the order of the GPU's queue, whichever promise resolves first; and the loop misses nothing that happens while it is busy.
import { describe, expect, test } from "vitest";
import { UnderWay } from "../../../src/engine/under-way";
import { Wake } from "../../../src/engine/wake";

/** A promise, and what settles it. */
function deferred<T>() {
  let resolve: (value: T) => void = () => undefined;
  let reject: (reason: unknown) => void = () => undefined;
  const promise = new Promise<T>((resolveIt, rejectIt) => {
    resolve = resolveIt;
    reject = rejectIt;
  });
  return { promise, resolve, reject };
}

const settled = () => new Promise((resolve) => setTimeout(resolve));

describe("steps under way", () => {
  test("are settled in their order", async () => {
    const said: string[] = [];
    let calls = 0;
    const underWay = new UnderWay(() => calls++);
    const [first, second] = [deferred<string>(), deferred<string>()];
    for (const { promise } of [first, second]) underWay.add(promise, (word) => said.push(word));
    second.resolve("two");
    await settled();
    underWay.settleDone();
    expect([said, calls]).toEqual([[], 1]);
    first.resolve("one");
    await settled();
    underWay.settleDone();
    expect([said, calls]).toEqual([["one", "two"], 2]);
  });

  test("throw what they failed with, once, and those after them are settled later", async () => {
    const failure = new Error("the device is gone");
    const said: string[] = [];
    const underWay = new UnderWay(() => undefined);
    const failing = deferred<string>();
    underWay.add(failing.promise, (word) => said.push(word));
    underWay.add(Promise.resolve("two"), (word) => said.push(word));
    failing.reject(failure);
    await settled();
    expect(() => underWay.settleDone()).toThrow(failure);
    underWay.settleDone();
    expect(said).toEqual(["two"]);
  });

  test("that were dropped say nothing", async () => {
    const said: string[] = [];
    const underWay = new UnderWay(() => undefined);
    underWay.add(Promise.resolve("one"), (word) => said.push(word));
    underWay.drop();
    await settled();
    underWay.settleDone();
    expect(said).toEqual([]);
  });
});

describe("a wake", () => {
  test("that comes while the loop is busy is not lost", async () => {
    const wake = new Wake();
    wake.clear();
    wake.now();
    await wake.wait(); // hangs where it is lost
  });

  test("from before the loop looked does not count", async () => {
    const wake = new Wake();
    wake.now();
    wake.clear();
    let woken = false;
    void wake.wait().then(() => {
      woken = true;
    });
    await settled();
    expect(woken).toBe(false);
    wake.now();
    await settled();
    expect(woken).toBe(true);
  });

  test("ends with its signal for who gives up waiting", async () => {
    const abort = new AbortController();
    const waiting = new Wake().next(abort.signal);
    const reason = new Error("enough");
    abort.abort(reason);
    await expect(waiting).rejects.toBe(reason);
  });
});
