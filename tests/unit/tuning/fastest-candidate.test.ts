// A faster candidate replaces the default; a lucky one does not.
import { expect, test } from "vitest";
import { cannotWin, fastestCandidate, ROUNDS } from "../../../src/tuning/fastest-candidate";
import { seededRandom } from "../../support/random";

const random = seededRandom("fastest-candidate");
const TRIALS = 1000;

/** Times of candidates whose true ratios to the default are given, with 4 percent of noise, on a device that slows down to half its speed. */
function noisyTimes(ratios: readonly number[]): number[][] {
  const uniform = () => random.integer(2 ** 20) / 2 ** 20;
  return ratios.map((ratio) => Array.from({ length: ROUNDS }, (_, round) => ratio * (1 + round / ROUNDS) * (0.96 + 0.08 * uniform())));
}

/** How often each candidate was chosen. */
function choices(ratios: readonly number[]): number[] {
  const counts = ratios.map(() => 0);
  for (let trial = 0; trial < TRIALS; trial++) {
    const { index } = fastestCandidate(noisyTimes(ratios));
    counts[index] = (counts[index] ?? 0) + 1;
  }
  return counts;
}

test("if all candidates are equally fast, the default stays in 99 of 100 trials", () => {
  expect(choices([1, 1, 1, 1, 1, 1])[0]).toBeGreaterThanOrEqual(0.99 * TRIALS);
});

test("a candidate that takes three quarters of the default's time is always found", () => {
  expect(choices([1, 1, 0.75, 1, 1.2, 0.9])[2]).toBe(TRIALS);
});

test.each([
  ["6 percent faster in every round wins", [0.94, 0.94, 0.94, 0.94], 1],
  ["4 percent faster in every round loses", [0.96, 0.96, 0.96, 0.96], 0],
  ["faster in all rounds but one wins", [0.9, 0.9, 7, 0.9], 1],
  ["twice as fast in half of the rounds loses", [0.5, 0.5, 1, 1], 0],
  ["dropped after two rounds loses", [1.3, 1.2], 0],
] as const)("a candidate that is %s", (_, own, index) => {
  expect(fastestCandidate([[1, 1, 1, 1], own]).index).toBe(index);
});

test("the ratio of the fastest candidate is the one that three of four rounds reached", () => {
  expect(
    fastestCandidate([
      [2, 2, 2, 2],
      [1, 1.2, 1.4, 3],
    ]),
  ).toEqual({ index: 1, ratio: 0.7 });
});

test("a candidate that is dropped early would have lost with the best possible remaining rounds", () => {
  for (let trial = 0; trial < TRIALS; trial++) {
    const [defaults = [], own = []] = noisyTimes([1, 0.96]);
    const rounds = 1 + random.integer(ROUNDS);
    if (!cannotWin(own.slice(0, rounds), defaults)) continue;
    const best = own.map((time, round) => (round < rounds ? time : 0));
    expect(fastestCandidate([defaults, best]).index).toBe(0);
  }
  expect(cannotWin([0.9, 1], [1, 1])).toBe(false);
  expect(cannotWin([1, 1], [1, 1])).toBe(true);
});
