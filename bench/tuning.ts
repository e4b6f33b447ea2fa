// What does a tuning find here, and what does it gain? Every cut that was tried, and decode with the usual cuts and with those that were fastest.

import type { EngineCore } from "../src/engine/engine-core";
import { productKey } from "../src/kernels/gemv-candidates";
import { decodeProducts } from "../src/model/decode-products";
import type { ModelFiles } from "../src/repository/model-files";
import { resolveSampling } from "../src/steps/sampling-settings";
import { measureProducts } from "../src/tuning/gemv-measure";
import { GemvTunings } from "../src/tuning/gemv-tunings";
import { memoryTuningStore } from "../tests/support/memory-tuning-store";
import { type LoadedCoreOptions, loadCore, testIds } from "./loaded-core";

export interface TuningOptions extends LoadedCoreOptions {
  /** Positions before those that are decoded. */
  readonly context?: number;
  readonly decodeTokens?: number;
  readonly repeats?: number;
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

export async function measureTuning(files: ModelFiles, options: TuningOptions = {}) {
  const { context = 128, decodeTokens = 128, repeats = 5, ...load } = options;
  const store = memoryTuningStore();
  const tunings = () => GemvTunings.read(store, () => undefined);
  const speedOf = (core: EngineCore) => decodeSpeed(core, context, decodeTokens, repeats);
  const { core, dispose } = await loadCore(files, load);
  const { adapterName: adapter } = core.gpu;
  const byDefault = await speedOf(core);
  const start = performance.now();
  const measured = await measureProducts(core, decodeProducts(core.model));
  const tuningMs = performance.now() - start;
  await (await tunings()).remember(adapter, measured);
  dispose();
  const tuned = await loadCore(files, { ...load, tunings: await tunings() });
  const decode = [
    { cuts: "usual", ...byDefault },
    { cuts: "tuned", ...(await speedOf(tuned.core)) },
  ];
  tuned.dispose();
  return { model: files.name, adapter, tuningMs, decode, products: measured.map(productRow), candidates: measured.flatMap(candidateRows) };
}

type Measured = Awaited<ReturnType<typeof measureProducts>>[number];

function productRow({ product, tuning, speedup }: Measured) {
  return { product: productKey(product), tuning, speedup };
}

/** Microseconds of a dispatch: each round's, the submit's share included. */
function candidateRows({ product, cuts }: Measured) {
  return cuts.map(({ tuning, times }) => ({
    product: productKey(product),
    tuning,
    medianUs: 1000 * median(times),
    leastUs: 1000 * Math.min(...times),
    us: times.map((ms) => 1000 * ms),
  }));
}

async function decodeSpeed(core: EngineCore, context: number, decodeTokens: number, repeats: number) {
  const sampling = resolveSampling({ temperature: 0 }, core.config.vocabSize);
  const runs: number[] = [];
  for (let i = 0; i <= repeats; i++) {
    const sequence = core.createSequence();
    sequence.append(testIds(context, core.config.vocabSize));
    const request = { sequence, sampling, stopIds: [], maxTokens: decodeTokens + 1, onToken: () => true };
    runs.push((await core.takeTurn((generate) => generate(request))).decodeTokensPerSecond);
    await core.releaseSequence(sequence);
  }
  return { tokensPerSecond: median(runs.slice(1)), runs: runs.slice(1) }; // in the first, drivers compile
}
