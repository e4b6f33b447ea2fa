import { expect, test } from "vitest";
import { forEachGated, Gate } from "../../../src/bytes/gate";

const turn = () => new Promise((resolve) => setTimeout(resolve, 1));

test("no more run at once than there are places, and all run", async () => {
  const gate = new Gate(3);
  const done: number[] = [];
  let running = 0;
  const work = async (item: number) => {
    running += 1;
    expect(running).toBeLessThanOrEqual(3);
    await turn();
    running -= 1;
    done.push(item);
  };
  await Promise.all([forEachGated(gate, [0, 1, 2, 3, 4, 5], undefined, work), forEachGated(gate, [6, 7, 8, 9], undefined, work)]);
  expect(done.sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

test("a call with one item does not wait for all items of an earlier one", async () => {
  const gate = new Gate(1);
  const done: string[] = [];
  const work = async (item: string) => {
    await turn();
    done.push(item);
  };
  await Promise.all([forEachGated(gate, ["a", "b", "c", "d"], undefined, work), forEachGated(gate, ["urgent"], undefined, work)]);
  expect(done.indexOf("urgent")).toBeLessThan(3);
});

test("the first failure is thrown once every other task has stopped, and leaves the gate's places free", async () => {
  const gate = new Gate(2);
  let stopped = 0;
  const work = async (item: number, signal: AbortSignal) => {
    if (item === 1) throw new Error("the first");
    while (!signal.aborted) await turn();
    await turn();
    stopped += 1;
    throw new Error("a later one");
  };
  await expect(forEachGated(gate, [0, 1, 2, 3], undefined, work)).rejects.toThrow("the first");
  expect(stopped).toBe(1);
  await forEachGated(gate, [4, 5], undefined, async () => {});
});

test("an abort ends the wait in line with its reason, and gives no place away", async () => {
  const gate = new Gate(1);
  const abort = new AbortController();
  await gate.enter(new AbortController().signal);
  const waiting = gate.enter(abort.signal);
  abort.abort("enough");
  await expect(waiting).rejects.toBe("enough");
  gate.leave();
  await gate.enter(new AbortController().signal);
});
