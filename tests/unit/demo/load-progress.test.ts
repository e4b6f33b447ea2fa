// What the demo page shows of a load: bytes, speed, time left, phase.
import { expect, test } from "vitest";
import { LoadProgress } from "../../../demo/load-progress";
import { describePhase, describeProgress } from "../../../demo/loader-view";
import { TransferSpeed } from "../../../demo/transfer-speed";

const MB = 1_000_000;
const received = (bytes: number, origin: "network" | "cache" | "local" = "network") =>
  ({ type: "bytes-received", source: "model.gguf", bytes, origin }) as const;
const started = (totalBytes: number) => ({ type: "load-start", model: "model.gguf", totalBytes, adapter: "some card" }) as const;

test("a steady stream shows its speed, whatever the size of its chunks", () => {
  for (const chunksPerSecond of [2, 100, 4000]) {
    const speed = new TransferSpeed();
    for (let chunk = 0; chunk <= 8 * chunksPerSecond; chunk++) speed.add((5 * MB) / chunksPerSecond, (1000 * chunk) / chunksPerSecond);
    const bytesPerSecond = speed.bytesPerSecond(8000);
    expect(bytesPerSecond).toBeGreaterThan(4.9 * MB);
    expect(bytesPerSecond).toBeLessThan(5.8 * MB); // the last chunk of two a second counts whole
  }
});

test("a speed is shown only after it has settled, and falls to zero if nothing arrives", () => {
  const speed = new TransferSpeed();
  expect(speed.bytesPerSecond(0)).toBeNull();
  speed.add(MB, 100);
  expect(speed.bytesPerSecond(300)).toBeNull();
  expect(speed.bytesPerSecond(1100)).toBeCloseTo(MB);
  expect(speed.bytesPerSecond(1_000_000)).toBeLessThan(1100);
});

test("a stream that slows down shows its new speed within the window", () => {
  const speed = new TransferSpeed();
  for (let ms = 0; ms < 10_000; ms += 50) speed.add(500_000, ms);
  for (let ms = 10_000; ms <= 15_000; ms += 50) speed.add(50_000, ms);
  expect(speed.bytesPerSecond(15_000)).toBeLessThan(1.1 * MB);
});

test("bytes read before the weights do not count", () => {
  const progress = new LoadProgress();
  progress.take(received(3 * MB), 0);
  progress.take(started(40 * MB), 100);
  progress.take(received(10 * MB), 200);
  expect(progress.arrivedBytes).toBe(10 * MB);
});

test("repeated bytes never exceed the whole", () => {
  const progress = new LoadProgress();
  progress.take(started(40 * MB), 0);
  for (let second = 1; second <= 5; second++) progress.take(received(10 * MB), 1000 * second);
  expect(progress.arrivedBytes).toBe(40 * MB);
  expect(progress.phase).toBe("finishing");
});

test("weights that arrived with the header count when they reach the GPU", () => {
  const progress = new LoadProgress();
  progress.take(received(2 * MB), 0);
  progress.take(started(4 * MB), 100);
  progress.take({ type: "load-progress", loadedBytes: 2 * MB, totalBytes: 4 * MB }, 200);
  expect(progress.arrivedBytes).toBe(2 * MB);
});

test("a load that reads anything from the network does not count as a load from the cache", () => {
  const progress = new LoadProgress();
  progress.take(started(40 * MB), 0);
  progress.take(received(10 * MB, "cache"), 100);
  expect(describePhase(progress, "Tiny")).toBe("Reading from this browser’s cache: Tiny");
  progress.take(received(1 * MB, "network"), 200);
  progress.take(received(10 * MB, "cache"), 300);
  expect(describePhase(progress, "Tiny")).toBe("Downloading Tiny");
});

test("the line below the bar shows bytes, speed and time left", () => {
  const progress = new LoadProgress();
  progress.take(started(60 * MB), 0);
  for (let ms = 0; ms <= 4000; ms += 100) progress.take(received(0.5 * MB), ms);
  expect(describeProgress(progress, 4000)).toBe("20.5 MB of 60.0 MB · 5.1 MB/s · about 8 s left");
});

test("a staged model counts as loaded with its first stage, and shows how many bytes that is", () => {
  const progress = new LoadProgress();
  const stage = (index: number, bytes: number) => ({ index, name: "AB".charAt(index), quality: null, bytes });
  const plan = { layerCount: 2, vocabSize: 2, source: "default", stages: [] } as const;
  progress.take(started(60 * MB), 0);
  progress.take({ type: "stages-planned", stages: [stage(0, 20 * MB), stage(1, 40 * MB)], plan }, 0);
  for (let ms = 0; ms < 1000; ms += 100) progress.take(received(1 * MB), ms);
  expect(describeProgress(progress, 1000)).toBe("10.0 MB of 20.0 MB until it answers · 10 MB/s · a moment left");
  expect(progress.share).toBe(0.25);
  progress.take(received(10 * MB), 1100);
  expect(progress.phase).toBe("finishing");
});

test("a stall is shown as such, without a time left", () => {
  const progress = new LoadProgress();
  progress.take(started(60 * MB), 0);
  progress.take(received(0.5 * MB), 0);
  expect(describeProgress(progress, 60_000)).toBe("500 kB of 60.0 MB · waiting for the network, or for shaders to compile");
});
