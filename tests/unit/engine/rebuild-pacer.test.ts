// A rebuild between decode steps: as much as the reader hardly notices, whatever steps and slices cost.
import { expect, test } from "vitest";
import { RebuildPacer } from "../../../src/engine/rebuild-pacer";

/** Decodes `steps` tokens beside a rebuild. The mean and the longest time between two of the later half, and slices in all. */
function decode(pacer: RebuildPacer, stepMs: number, sliceMs: number, steps: number) {
  const gaps: number[] = [];
  let slices = 0;
  for (let step = 0; step < steps; step++) {
    const now = pacer.slicesNow();
    slices += now;
    const gapMs = stepMs + now * sliceMs;
    pacer.tokenCame(gapMs, now);
    gaps.push(gapMs);
  }
  const later = gaps.slice(steps / 2);
  return { meanMs: later.reduce((sum, gap) => sum + gap, 0) / later.length, longestMs: Math.max(...later), slices };
}

test.each([
  [1.1, 0.1],
  [1.1, 0.5],
  [5, 2],
  [20, 1],
  [20, 7],
])(
  "with steps of %f ms and slices of %f ms, tokens come at most 40 %% slower, and no gap is longer by more than 8 ms or a slice",
  (stepMs, sliceMs) => {
    const pacer = new RebuildPacer();
    for (let token = 0; token < 20; token++) pacer.tokenCame(stepMs, 0);
    const { meanMs, longestMs, slices } = decode(pacer, stepMs, sliceMs, 400);
    expect(meanMs).toBeLessThanOrEqual(1.4 * stepMs);
    expect(longestMs).toBeLessThanOrEqual(stepMs + Math.max(8, sliceMs) + 1e-9);
    // And the rebuild gets on: a fifth of the time that a step takes, at least.
    expect((slices * sliceMs) / (400 * stepMs)).toBeGreaterThan(0.2);
  },
);

test("begins before anything was measured", () => {
  const pacer = new RebuildPacer();
  const { slices } = decode(pacer, 3, 1, 50);
  expect(slices).toBeGreaterThan(5);
});

// Tokens that were read in one go had a time of 0 between them, and from then on no slice was ever given.
test("goes on where a coarse clock tells of no time between two tokens", () => {
  const pacer = new RebuildPacer();
  pacer.tokenCame(0, 0);
  pacer.slicesNow();
  const { slices } = decode(pacer, 3, 1, 100);
  expect(slices).toBeGreaterThan(10);
});
