// Which GEMV parameters are fastest here, and what do they gain? The times of all candidates, and decode with default and with tuned parameters.
import type { EngineCore } from "../src/engine/engine-core";
import { productKey } from "../src/kernels/gemv-candidates";
import { decodeProducts } from "../src/model/decode-products";
import type { ModelFiles } from "../src/repository/model-files";
import { measureProducts } from "../src/tuning/gemv-measure";
import { GemvTunings } from "../src/tuning/gemv-tunings";
import { memoryTuningStore } from "../tests/support/memory-tuning-store";
import { generate, type LoadedCoreOptions, loadCore, testIds } from "./loaded-core";

export interface TuningOptions extends LoadedCoreOptions {
  /** Length of the prompt. */
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
  const tunedProducts = measured.map(({ product, tuning, speedup }) => ({ ...product, tuning, speedup }));
  await (await tunings()).remember(core.gpu, tunedProducts);
  dispose();
  const tuned = await loadCore(files, { ...load, tunings: await tunings() });
  const decode = [
    { parameters: "default", ...byDefault },
    { parameters: "tuned", ...(await speedOf(tuned.core)) },
  ];
  tuned.dispose();
  return { model: files.name, adapter, tuningMs, decode, products: measured.map(productRow), candidates: measured.flatMap(candidateRows) };
}

type Measured = Awaited<ReturnType<typeof measureProducts>>[number];

function productRow({ product, tuning, speedup }: Measured) {
  return { product: productKey(product), tuning, speedup };
}

/** Microseconds a dispatch in each round, a share of the submit included. */
function candidateRows({ product, candidates }: Measured) {
  return candidates.map(({ tuning, times }) => ({
    product: productKey(product),
    tuning,
    medianUs: 1000 * median(times),
    leastUs: 1000 * Math.min(...times),
    us: times.map((ms) => 1000 * ms),
  }));
}

async function decodeSpeed(core: EngineCore, context: number, decodeTokens: number, repeats: number) {
  const runs: number[] = [];
  for (let i = 0; i <= repeats; i++) {
    const sequence = core.createSequence();
    sequence.append(testIds(context, core.config.vocabSize));
    runs.push((await generate(core, sequence, decodeTokens + 1)).decodeTokensPerSecond);
    await core.releaseSequence(sequence);
  }
  return { tokensPerSecond: median(runs.slice(1)), runs: runs.slice(1) }; // drivers compile during the first
}
