// A rebuild between decode steps: as much as the reader hardly notices, whatever steps and slices cost.
import { expect, test } from "vitest";
import { RebuildPacer } from "../../../src/takeover/rebuild-pacer";

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
    const pacer = new RebuildPacer(16);
    for (let token = 0; token < 20; token++) pacer.tokenCame(stepMs, 0);
    const { meanMs, longestMs, slices } = decode(pacer, stepMs, sliceMs, 400);
    expect(meanMs).toBeLessThanOrEqual(1.4 * stepMs);
    expect(longestMs).toBeLessThanOrEqual(stepMs + Math.max(8, sliceMs) + 1e-9);
    // And the rebuild gets on: a fifth of the time that a step takes, at least.
    expect((slices * sliceMs) / (400 * stepMs)).toBeGreaterThan(0.2);
  },
);

test("begins before anything was measured", () => {
  const pacer = new RebuildPacer(16);
  const { slices } = decode(pacer, 3, 1, 50);
  expect(slices).toBeGreaterThan(5);
});

// Tokens that were read in one go had a time of 0 between them, and from then on no slice was ever given.
test("goes on where a coarse clock tells of no time between two tokens", () => {
  const pacer = new RebuildPacer(16);
  pacer.tokenCame(0, 0);
  pacer.slicesNow();
  const { slices } = decode(pacer, 3, 1, 100);
  expect(slices).toBeGreaterThan(10);
});

// It took two seconds for what a slice costs, and gave none for the next five hundred steps.
test.each([1, 30])("goes on after a pause of the page that falls on slice %i", (paused) => {
  const pacer = new RebuildPacer(16);
  for (let token = 0; token < 20; token++) pacer.tokenCame(5, 0);
  for (let slice = 1; slice <= paused; slice++) pacer.tokenCame(slice === paused ? 2000 : 6, 1);
  const { slices } = decode(pacer, 5, 1, 50);
  expect(slices).toBeGreaterThan(10);
});

interface BurstDevice {
  readonly stepMs: number;
  /** Of a slice: a part that every one costs, and one for each row. */
  readonly sliceMs: number;
  readonly rowMs: number;
}

/** Decodes on a device whose results come back four at once, chunks of 17 layers beside. The time that each step took with its slices. */
function decodeInBursts(pacer: RebuildPacer, { stepMs, sliceMs, rowMs }: BurstDevice, steps: number): number[] {
  for (let token = 0; token < 40; token++) pacer.tokenCame(token % 4 === 3 ? 4 * stepMs : 0, 0);
  const times: number[] = [];
  let heldMs = 0;
  let layersLeft = 0;
  let rows = 0;
  for (let step = 0; step < steps; step++) {
    const slices = pacer.slicesNow();
    let spentMs = stepMs;
    for (let slice = 0; slice < slices; slice++) {
      if (layersLeft === 0) {
        rows = pacer.chunkRows(10_000);
        layersLeft = 17;
      }
      layersLeft--;
      spentMs += sliceMs + rows * rowMs;
    }
    times.push(spentMs);
    heldMs += spentMs;
    const isBurst = step % 4 === 3;
    pacer.tokenCame(isBurst ? heldMs : 0, slices);
    if (isBurst) heldMs = 0;
  }
  return times;
}

// On a GPU, a slice of 0.1 ms was taken for one of 0.7: the rebuild of 1,000 positions never caught up with 1,000 tokens a second. Later
// one of 1 ms was taken for nothing, just after chunks had grown, and 38 ms of slices went between two tokens.
test.each([
  { stepMs: 0.9, sliceMs: 0.1, rowMs: 0 },
  { stepMs: 0.9, sliceMs: 0.05, rowMs: 0.002 },
  { stepMs: 1.4, sliceMs: 0.1, rowMs: 0.01 },
  { stepMs: 12, sliceMs: 0.2, rowMs: 0.05 },
])(
  "where tokens come in bursts, slices get a quarter to two fifths of the time, and 8 ms or one of them between two tokens: %o",
  (device) => {
    const times = decodeInBursts(new RebuildPacer(16), device, 600);
    const later = times.slice(200);
    const mean = later.reduce((sum, ms) => sum + ms, 0) / later.length;
    expect(mean / device.stepMs).toBeGreaterThan(1.2);
    expect(mean / device.stepMs).toBeLessThan(1.45);
    const longestSlice = device.sliceMs + 512 * device.rowMs;
    expect(Math.max(...times)).toBeLessThanOrEqual(device.stepMs + Math.max(8, longestSlice));
  },
);

test("chunks grow where slices are short beside what may go between two tokens, and shrink where they are long", () => {
  const rowsAfter = (stepMs: number, msOfRow: number) => {
    const pacer = new RebuildPacer(16);
    for (let token = 0; token < 20; token++) pacer.tokenCame(stepMs, 0);
    let rows = pacer.chunkRows(10_000);
    for (let chunk = 0; chunk < 12; chunk++) {
      decode(pacer, stepMs, rows * msOfRow, 60);
      rows = pacer.chunkRows(10_000);
    }
    return rows;
  };
  expect(rowsAfter(1, 0.001)).toBe(512);
  expect(rowsAfter(1, 0.05)).toBe(64);
  expect(rowsAfter(10, 1)).toBe(16);
});

// Steps of 5 ms are learned from a pause; then tokens with slices come after 2 ms, as if slices took less than nothing.
test("gives no burst of slices where they look free", () => {
  const pacer = new RebuildPacer(16);
  for (let token = 0; token < 20; token++) pacer.tokenCame(5, 0);
  let most = 0;
  for (let step = 0; step < 100; step++) {
    const slices = pacer.slicesNow();
    most = Math.max(most, slices);
    pacer.tokenCame(2, slices);
  }
  expect(most).toBeLessThanOrEqual(8);
});
