// The default is given up for what is faster, and not for what was lucky.
import { expect, test } from "vitest";
import { chooseCut, hasLost, ROUNDS } from "../../../src/tuning/cut-choice";
import { seededRandom } from "../../support/random";

const random = seededRandom("cut-choice");
const TRIALS = 1000;

/** Batches of cuts that truly take such parts of the default's time, each off by up to 4 percent, on a device that slows down to half its speed. */
function noisyTimes(truth: readonly number[]): number[][] {
  const uniform = () => random.integer(2 ** 20) / 2 ** 20;
  return truth.map((ratio) => Array.from({ length: ROUNDS }, (_, round) => ratio * (1 + round / ROUNDS) * (0.96 + 0.08 * uniform())));
}

function choices(truth: readonly number[]): number[] {
  const counts = truth.map(() => 0);
  for (let trial = 0; trial < TRIALS; trial++) {
    const { cut } = chooseCut(noisyTimes(truth));
    counts[cut] = (counts[cut] ?? 0) + 1;
  }
  return counts;
}

test("among cuts that are as fast as the default, the default stays in all but a hundredth", () => {
  expect(choices([1, 1, 1, 1, 1, 1])[0]).toBeGreaterThanOrEqual(0.99 * TRIALS);
});

test("a cut that takes three quarters of the time is found", () => {
  expect(choices([1, 1, 0.75, 1, 1.2, 0.9])[2]).toBe(TRIALS);
});

test.each([
  ["below by 6 percent in every round", [0.94, 0.94, 0.94, 0.94], 1],
  ["below by 4 percent in every round", [0.96, 0.96, 0.96, 0.96], 0],
  ["held up in one round", [0.9, 0.9, 7, 0.9], 1],
  ["lucky in half of the rounds", [0.5, 0.5, 1, 1], 0],
  ["given up after two rounds", [1.3, 1.2], 0],
] as const)("a cut that is %s", (_, own, cut) => {
  expect(chooseCut([[1, 1, 1, 1], own]).cut).toBe(cut);
});

test("the ratio of the chosen cut is the one that it kept below in three rounds of four", () => {
  expect(
    chooseCut([
      [2, 2, 2, 2],
      [1, 1.2, 1.4, 3],
    ]),
  ).toEqual({ cut: 1, ratio: 0.7 });
});

test("what is given up early would not have been chosen, whatever came", () => {
  for (let trial = 0; trial < TRIALS; trial++) {
    const [defaults = [], own = []] = noisyTimes([1, 0.96]);
    const rounds = 1 + random.integer(ROUNDS);
    if (!hasLost(own.slice(0, rounds), defaults)) continue;
    const best = own.map((time, round) => (round < rounds ? time : 0));
    expect(chooseCut([defaults, best]).cut).toBe(0);
  }
  expect(hasLost([0.9, 1], [1, 1])).toBe(false);
  expect(hasLost([1, 1], [1, 1])).toBe(true);
});
