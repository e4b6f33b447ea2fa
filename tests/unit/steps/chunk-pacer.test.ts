import fc from "fast-check";
import { expect, test } from "vitest";
import { type ChunkPacer, fixedChunks, type LayerWork, layerWork, pacedChunks } from "../../../src/steps/chunk-pacer";

interface Chunk {
  readonly rows: number;
  readonly ms: number;
  readonly layers: number;
}

/** A device: what the chunk of these rows takes, as the `index`th of all. */
type Device = (rows: number, index: number) => number;

/** Runs prompts, one chunk after another. */
function prefill(pacer: ChunkPacer, lengths: readonly number[], device: Device): Chunk[] {
  const chunks: Chunk[] = [];
  for (const length of lengths) {
    for (let left = length; left > 0; ) {
      const rows = pacer.next(left);
      const ms = device(rows, chunks.length);
      chunks.push({ rows, ms, layers: pacer.layersPerSubmit(rows) });
      pacer.took(rows, ms);
      left -= rows;
    }
  }
  return chunks;
}

const rowsOf = (chunks: readonly Chunk[]) => chunks.map(({ rows }) => rows);
const totalMs = (chunks: readonly Chunk[]) => chunks.reduce((sum, { ms }) => sum + ms, 0);

/** Prompts on a device whose clock ticks every `tickMs`, with chunks queued ahead. Gives rows and when all is done. */
function prefillPolled(pacer: ChunkPacer, length: number, device: (rows: number) => number, tickMs: number) {
  const queue: { rows: number; startMs: number; endMs: number }[] = [];
  const sizes: number[] = [];
  let [now, endMs, seenMs, left] = [0, 0, 0, length];
  while (left > 0 || queue.length > 0) {
    while (left > 0 && queue.length < pacer.chunksAhead) {
      const rows = pacer.next(left);
      endMs = Math.max(now, endMs) + device(rows);
      queue.push({ rows, startMs: now, endMs });
      sizes.push(rows);
      left -= rows;
    }
    now = Math.ceil((queue[0]?.endMs ?? 0) / tickMs) * tickMs;
    while (queue[0] && queue[0].endMs <= now) {
      const { rows, startMs } = queue[0];
      queue.splice(0, 1);
      pacer.took(rows, now - Math.max(startMs, seenMs));
      seenMs = now;
    }
  }
  return { sizes, ms: now };
}

const SMALL: LayerWork = { layerCount: 30, rowWork: 3.5e6 }; // SmolLM2 135M
const MIDDLE: LayerWork = { layerCount: 28, rowWork: 46.8e6 }; // Qwen2.5 1.5B
const LARGE: LayerWork = { layerCount: 32, rowWork: 218e6 }; // Llama 3.1 8B
/** The 8B shapes on an H200 without matrix units: up to 64 rows take what 33 do. */
const largeOnH200: Device = (rows) => (rows <= 64 ? 61.3 : rows <= 128 ? 80 : (rows / 256) * 123);

/** Even figures in [0, 1), the same at each run. */
function noise(): () => number {
  let state = 1;
  return () => {
    state = (state * 16807) % 2147483647;
    return state / 2147483647;
  };
}

test("a fast device comes to the largest chunks after its first", () => {
  expect(rowsOf(prefill(pacedChunks(1024, 16), [4000], (rows) => rows / 50))).toEqual([256, 1024, 1024, 1024, 672]);
});

test("on a fast device, a small first chunk costs no more than the fixed time of one chunk", () => {
  const fixedMs = 13;
  const device: Device = (rows) => fixedMs + 0.033 * rows; // Qwen2.5 1.5B on an H100
  for (const length of [200, 400, 1024, 3000]) {
    const first = totalMs(prefill(pacedChunks(1024, 16, MIDDLE), [length], device));
    const from256 = totalMs(prefill(pacedChunks(1024, 16), [length], device));
    expect(first - from256, `${length} rows`).toBeLessThanOrEqual(fixedMs + 0.01);
  }
  expect(rowsOf(prefill(pacedChunks(1024, 16, SMALL), [200], (rows) => 4 + 0.012 * rows))).toEqual([200]);
});

test("a slow device comes to chunks that take no more than a tenth of a second", () => {
  const chunks = prefill(pacedChunks(1024, 16), [1000], (rows) => rows / 0.7);
  expect(Math.max(...chunks.slice(1, 8).map(({ ms }) => ms))).toBeLessThanOrEqual(100);
  expect(Math.max(...chunks.slice(8).map(({ ms }) => ms))).toBeLessThanOrEqual(150); // a probe at times
});

test("no submit to an unknown or slow device runs into a watchdog of two seconds", () => {
  for (const work of [SMALL, MIDDLE, LARGE]) {
    for (const gflops of [20, 100, 1000]) {
      const device: Device = (rows) => (2 * rows * work.rowWork * work.layerCount) / (gflops * 1e6);
      const chunks = prefill(pacedChunks(1024, 16, work), [300, 2000], device);
      const submitMs = chunks.map(({ ms, layers }) => (ms * layers) / work.layerCount);
      expect(Math.max(...submitMs), `${work.rowWork} multiply-adds at ${gflops} GFLOP/s`).toBeLessThan(1000);
    }
  }
});

test("one chunk at a time is under way until the first was measured", () => {
  const pacer = pacedChunks(1024, 16, MIDDLE);
  expect(pacer.chunksAhead).toBe(1);
  pacer.took(128, 20);
  expect(pacer.chunksAhead).toBe(2);
});

test("an engine whose chunks are all a few rows has two of them under way as well", () => {
  const pacer = pacedChunks(16, 16, MIDDLE);
  pacer.took(pacer.next(100), 20);
  expect(pacer.chunksAhead).toBe(2);
});

test("one measured chunk lets a fast device have its eight layers a submit", () => {
  const pacer = pacedChunks(1024, 16, MIDDLE);
  expect(pacer.layersPerSubmit(128)).toBe(1);
  pacer.took(128, 17);
  expect(pacer.layersPerSubmit(512)).toBe(8);
});

test("slow first chunks, while a driver compiles say, do not leave small chunks behind", () => {
  for (const [slow, extraMs] of [
    [1, 300],
    [1, 3000],
    [2, 1000],
  ] as const) {
    const pacer = pacedChunks(1024, 16, LARGE);
    const device: Device = (rows, index) => largeOnH200(rows, index) + (index < slow ? extraMs : 0);
    prefill(pacer, [128], device); // as a warm-up has it
    for (let run = 0; run < 4; run++) {
      const rate = 1_024_000 / totalMs(prefill(pacer, [1024], largeOnH200));
      expect(rate, `${slow} slow by ${extraMs} ms, run ${run}: tokens a second`).toBeGreaterThan(1500);
    }
  }
});

test("fixed time longer than a chunk should take does not shrink chunks for good", () => {
  const pacer = pacedChunks(1024, 16, MIDDLE);
  const device: Device = (rows) => 300 + 0.1 * rows;
  prefill(pacer, [2048], device);
  expect(Math.min(...rowsOf(prefill(pacer, [3000], device)).slice(0, -1))).toBeGreaterThan(700);
});

test("a device that has become fast again is found out although all chunks are alike", () => {
  const pacer = pacedChunks(1024, 16, MIDDLE);
  prefill(pacer, [900], (rows) => 8 * rows);
  const chunks = prefill(pacer, [4000], (rows) => 60 + 0.2 * rows);
  expect(Math.max(...rowsOf(chunks))).toBeGreaterThan(400);
});

test("a clock that ticks every 100 ms does not shrink the chunks of a fast device", () => {
  const { sizes, ms } = prefillPolled(pacedChunks(512, 8, MIDDLE), 4096, (rows) => 3 + 0.05 * rows, 100);
  expect(sizes.slice(8, -1).every((rows) => rows === 512)).toBe(true);
  expect(ms).toBeLessThanOrEqual(800);
});

test("a clock that ticks every 100 ms does not give a slow device large chunks for long", () => {
  const { sizes } = prefillPolled(pacedChunks(512, 8, MIDDLE), 4096, (rows) => 3 + 3 * rows, 100);
  expect(sizes.filter((rows) => rows > 128).length).toBeLessThan(sizes.length / 10);
});

test("noise of a third, and one chunk in ten that takes eight times as long, leave most of the speed", () => {
  const random = noise();
  const device: Device = (rows) => largeOnH200(rows, 0) * (0.7 + 0.6 * random()) * (random() < 0.1 ? 8 : 1);
  const chunks = prefill(pacedChunks(1024, 16, LARGE), Array<number>(8).fill(4096), device);
  const usual = rowsOf(chunks).sort((a, b) => a - b)[chunks.length >> 1] ?? 0;
  expect(usual).toBeGreaterThanOrEqual(128);
  expect(usual).toBeLessThanOrEqual(512);
});

test("a layer's work counts every matrix of it", () => {
  const qwen = { layerCount: 28, hiddenSize: 1536, headCount: 12, kvHeadCount: 2, headDim: 128, intermediateSize: 8960 };
  // query and output 1536 × 1536, key and value 256 × 1536, gate, up and down 8960 × 1536
  expect(layerWork({ ...qwen, activation: "silu-gated" })).toEqual({ layerCount: 28, rowWork: 46_792_704 });
  const falcon = { layerCount: 24, hiddenSize: 2048, headCount: 32, kvHeadCount: 32, headDim: 64, intermediateSize: 8192 };
  expect(layerWork({ ...falcon, activation: "gelu" })).toEqual({ layerCount: 24, rowWork: 50_331_648 });
});

test("the short end of a prompt does not shrink the next prompt's chunks", () => {
  const pacer = pacedChunks(1024, 16);
  prefill(pacer, [4000], (rows) => rows / 50);
  pacer.took(3, 5);
  pacer.took(40, 12);
  expect(pacer.next(5000)).toBe(1024);
});

test("a chunk through a part of the layers teaches what all of them take", () => {
  const pacer = pacedChunks(1024, 16);
  pacer.took(256, 50, 0.25);
  expect(pacer.next(5000)).toBe(128);
  expect(pacer.next(5000, false, 0.25)).toBe(512);
});

test("a chunk beside decode steps has a quarter of the rows", () => {
  const pacer = pacedChunks(1024, 16);
  pacer.took(256, 20);
  expect(pacer.next(5000, true)).toBe(256);
});

test("no device is given more rows than the engine has room for", () => {
  expect(Math.max(...rowsOf(prefill(pacedChunks(100, 16), [1000], (rows) => rows / 1000)))).toBe(100);
});

test("chunks hold every row once, and where there are more than a few, none has only a few", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 600 }),
      fc.integer({ min: 1, max: 16 }),
      fc.integer({ min: 0, max: 300 }),
      fc.array(fc.double({ min: 0, max: 10_000, noNaN: true }), { minLength: 1, maxLength: 30 }),
      (length, vectorRows, more, times) => {
        const maxRows = 2 * vectorRows + 1 + more;
        for (const pacer of [fixedChunks(maxRows, vectorRows), pacedChunks(maxRows, vectorRows, LARGE)]) {
          const chunks = prefill(pacer, [length], (_, index) => times[index % times.length] ?? 0);
          const sizes = rowsOf(chunks);
          expect(sizes.reduce((sum, rows) => sum + rows, 0)).toBe(length);
          if (length > vectorRows) expect(Math.min(...sizes)).toBeGreaterThan(vectorRows);
          expect(Math.max(...sizes)).toBeLessThanOrEqual(maxRows);
          for (const { layers } of chunks) expect(layers).toBeGreaterThanOrEqual(1);
        }
      },
    ),
  );
});
