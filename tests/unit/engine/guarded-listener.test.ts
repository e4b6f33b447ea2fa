// What a listener throws is the application's to hear of, and no business of whoever calls it.
import { afterEach, expect, test, vi } from "vitest";
import { guardedListener } from "../../../src/engine/guarded-listener";

const ERROR = new Error("from a listener");

afterEach(() => vi.unstubAllGlobals());

function tellTwice(): readonly number[] {
  const heard: number[] = [];
  const listener = guardedListener((value: number) => {
    heard.push(value);
    throw ERROR;
  });
  listener(1);
  listener(2);
  return heard;
}

test("an error is reported, and the next event is told all the same", () => {
  const reported: unknown[] = [];
  vi.stubGlobal("reportError", (error: unknown) => reported.push(error));
  expect(tellTwice()).toEqual([1, 2]);
  expect(reported).toEqual([ERROR, ERROR]);
});

test("without reportError it is thrown where nobody of ours is under way", () => {
  const later: (() => void)[] = [];
  vi.stubGlobal("reportError", undefined);
  vi.stubGlobal("queueMicrotask", (task: () => void) => later.push(task));
  expect(tellTwice()).toEqual([1, 2]);
  expect(later.length).toBe(2);
  for (const task of later) expect(task).toThrow(ERROR);
});
