// Benchmarks the products of a loaded model that are not in the store yet, and stores the fastest parameters for the next load.
import { sleep } from "../bytes/abort";
import { gemvCandidates } from "../kernels/gemv-candidates";
import { decodeProducts } from "../model/decode-products";
import { type MeasureOptions, measureProducts, type TuningHost } from "./gemv-measure";
import type { GemvTunings, TuningEvent } from "./gemv-tunings";

const IDLE_MS = 1000; // a visitor's first prompt usually arrives within this time and takes precedence

/** Call it when all weights are loaded. Never rejects. Stores nothing unless all products were measured. */
export async function tuneWhenIdle(
  host: TuningHost,
  tunings: GemvTunings,
  onEvent: (event: TuningEvent) => void,
  options: MeasureOptions = {},
): Promise<void> {
  let { gpu } = host;
  try {
    await sleep(IDLE_MS, options.signal);
    gpu = host.gpu; // the device may have been replaced meanwhile
    const { candidates = (product) => gemvCandidates(product, gpu.features) } = options;
    const unknown = decodeProducts(host.model).filter(({ product }) => candidates(product).length > 1 && !tunings.find(gpu, product));
    if (unknown.length === 0) return;
    const start = performance.now();
    const measured = await measureProducts(host, unknown, { ...options, candidates });
    const tuningMs = performance.now() - start;
    const products = measured.map(({ product, tuning, speedup }) => ({ ...product, tuning, speedup }));
    await tunings.remember(gpu, products);
    onEvent({ type: "gemv-tuned", adapter: gpu.adapterName, products, tuningMs });
  } catch (error) {
    // No event if the caller aborted, or if the engine was disposed or lost this device: other events report those.
    const isAlive = await host.alone(async () => host.gpu === gpu).catch(() => false);
    if (isAlive && !options.signal?.aborted) onEvent({ type: "gemv-tuning-failed", error });
  }
}
