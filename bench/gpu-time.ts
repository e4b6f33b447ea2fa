// Times GPU work. Repeats it until a batch is long enough for the coarse clocks of browsers, and takes the shortest batch.
import { present } from "../src/assert";
import type { Gpu } from "../src/gpu/device";
import { PassClock } from "../src/gpu/pass-clock";

export interface Timing {
  /** Encodes one repetition. `index` counts them, so that operands can rotate. */
  readonly encode: (pass: GPUComputePassEncoder, index: number) => void;
  /** Batches last at least this long. */
  readonly atLeastMs?: number;
  readonly batches?: number;
}

/** Milliseconds of one repetition. */
export interface RepeatTimes {
  /** Between timestamps at the beginning and the end of the pass; null if the device has no timestamps. */
  readonly gpuMs: number | null;
  /** From the submit to its completion. Includes the work of the browser before the GPU begins, not the encoding. */
  readonly wallMs: number;
}

// A submit and its wait cost 0.1 to 0.2 ms; Chromium's clock and timestamps have a resolution of 0.1 ms.
const AT_LEAST_MS = 25;
const MAX_REPEATS = 20_000;

/** Milliseconds of one repetition on the GPU, or wall time if the device has no timestamps. */
export async function gpuTime(gpu: Gpu, timing: Timing): Promise<number> {
  const { gpuMs, wallMs } = await repeatTimes(gpu, timing);
  return gpuMs ?? wallMs;
}

export async function repeatTimes(gpu: Gpu, { encode, atLeastMs = AT_LEAST_MS, batches = 3 }: Timing): Promise<RepeatTimes> {
  const clock = gpu.features.timestamps ? new PassClock(gpu, 1) : null;
  try {
    const batch = (repeats: number) => runBatch(gpu, encode, repeats, clock);
    await batch(1); // warm-up: drivers compile at the first dispatch
    let repeats = 2;
    let spent = await batch(repeats);
    const lasted = () => spent.gpuMs ?? spent.wallMs;
    while (lasted() < atLeastMs && repeats < MAX_REPEATS) {
      repeats = Math.min(MAX_REPEATS, Math.ceil(repeats * Math.min(8, Math.max(1.5, (1.2 * atLeastMs) / Math.max(lasted(), 0.05)))));
      spent = await batch(repeats);
    }
    const times = [spent];
    while (times.length < batches) times.push(await batch(repeats));
    const wallMs = Math.min(...times.map((time) => time.wallMs)) / repeats;
    return { gpuMs: clock && Math.min(...times.map(({ gpuMs }) => present(gpuMs, "a pass's time"))) / repeats, wallMs };
  } finally {
    clock?.destroy();
  }
}

export async function wallTime(act: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await act();
  return performance.now() - start;
}

async function runBatch({ device }: Gpu, encode: Timing["encode"], repeats: number, clock: PassClock | null): Promise<RepeatTimes> {
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass(clock ? { timestampWrites: clock.writes(0) } : {});
  for (let i = 0; i < repeats; i++) encode(pass, i);
  pass.end();
  const commands = encoder.finish();
  const wallMs = await wallTime(() => {
    device.queue.submit([commands]);
    return device.queue.onSubmittedWorkDone();
  });
  const [span] = clock ? await clock.read(1) : [];
  return { gpuMs: span ? span.end - span.start : null, wallMs };
}
