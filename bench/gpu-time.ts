// How long does the GPU take? Work is repeated until a batch lasts long enough for browsers' rough clocks, and the shortest batch counts.
import type { Gpu } from "../src/gpu/device";

export interface Timing {
  /** Work of one repetition, into a pass; `index` counts repetitions, so that operands can take turns. */
  readonly encode: (pass: GPUComputePassEncoder, index: number) => void;
  /** Batches last at least this long. */
  readonly atLeastMs?: number;
  readonly batches?: number;
}

// A submit with its wait costs 0.1 to 0.2 ms, and Chromium's clock has steps of 0.1 ms.
const AT_LEAST_MS = 25;
const MAX_REPEATS = 20_000;

/** Milliseconds of one repetition. */
export async function gpuTime(gpu: Gpu, { encode, atLeastMs = AT_LEAST_MS, batches = 3 }: Timing): Promise<number> {
  const batch = (repeats: number) => wallTime(() => runBatch(gpu, encode, repeats));
  await batch(1); // drivers compile lazily
  let repeats = 2;
  let spent = await batch(repeats);
  while (spent < atLeastMs && repeats < MAX_REPEATS) {
    repeats = Math.min(MAX_REPEATS, Math.ceil(repeats * Math.min(8, Math.max(1.5, (1.2 * atLeastMs) / Math.max(spent, 0.05)))));
    spent = await batch(repeats);
  }
  const times = [spent];
  while (times.length < batches) times.push(await batch(repeats));
  return Math.min(...times) / repeats;
}

export async function wallTime(act: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await act();
  return performance.now() - start;
}

async function runBatch({ device }: Gpu, encode: Timing["encode"], repeats: number): Promise<void> {
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  for (let i = 0; i < repeats; i++) encode(pass, i);
  pass.end();
  device.queue.submit([encoder.finish()]);
  await device.queue.onSubmittedWorkDone();
}
