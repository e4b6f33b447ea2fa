// How long does a load take, with and without compiled kernels? And how long does it block the page?
import { type Engine, type LoadOptions, loadEngine, type ModelLocation } from "../src/index";
import { testIds } from "./loaded-core";

export interface LoadTimes {
  /** Until the header is parsed and the device exists. */
  readonly describedMs: number;
  /** Until the last weights were uploaded. */
  readonly uploadedMs: number;
  readonly readyMs: number;
  /** Until the first token of a short prompt. */
  readonly firstTokenMs: number;
  /** The first token of a second prompt, from its call. */
  readonly secondTokenMs: number;
  /** The longest delay of a timer. */
  readonly longestBlockMs: number;
}

async function timedLoad(model: ModelLocation, options: LoadOptions): Promise<{ times: LoadTimes; engine: Engine }> {
  const block = watchBlocks();
  const start = performance.now();
  const since = () => performance.now() - start;
  let describedMs = 0;
  let uploadedMs = 0;
  const engine = await loadEngine(model, {
    ...options,
    onEvent: (event) => {
      if (event.type === "load-start") describedMs = since();
      if (event.type === "load-progress") uploadedMs = since();
    },
  });
  const readyMs = since();
  const ask = () => engine.generateIds(testIds(16, engine.config.vocabSize), { temperature: 0, maxTokens: 1 });
  await ask();
  const firstTokenMs = since();
  await ask();
  const secondTokenMs = since() - firstTokenMs;
  return { times: { describedMs, uploadedMs, readyMs, firstTokenMs, secondTokenMs, longestBlockMs: block.end() }, engine };
}

function watchBlocks() {
  const EVERY_MS = 5;
  let longestMs = 0;
  let last = performance.now();
  const timer = setInterval(() => {
    const now = performance.now();
    longestMs = Math.max(longestMs, now - last - EVERY_MS);
    last = now;
  }, EVERY_MS);
  return {
    end: () => {
      clearInterval(timer);
      return longestMs;
    },
  };
}

export async function measureLoad(model: ModelLocation, options: LoadOptions = {}) {
  const load: LoadOptions = { plan: "whole", cache: false, tuning: "off", ...options };
  const cold = await timedLoad(model, load);
  // The same device: its kernels are compiled.
  const warm = await timedLoad(model, { ...load, shareDeviceWith: cold.engine });
  const fresh = await timedLoad(model, load);
  for (const { engine } of [warm, cold, fresh]) engine.dispose();
  return { adapter: cold.engine.adapterName, cold: cold.times, warmKernels: warm.times, again: fresh.times };
}
