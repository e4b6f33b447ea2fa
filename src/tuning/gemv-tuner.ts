// Has the products of a loaded model measured that no visit before measured on this adapter, for the next load to go by.
import { sleep } from "../bytes/abort";
import type { EngineCore } from "../engine/engine-core";
import { gemvCandidates } from "../kernels/gemv-candidates";
import { decodeProducts } from "../model/decode-products";
import { type MeasureOptions, measureProducts } from "./gemv-measure";
import type { GemvTunings, TuningEvent } from "./gemv-tunings";

const IDLE_MS = 1000; // whoever loads a model to ask it something has asked by then, and goes first

/** Once all weights are there. Never rejects; nothing is stored unless all was measured. */
export async function tuneWhenIdle(
  core: EngineCore,
  tunings: GemvTunings,
  onEvent: (event: TuningEvent) => void,
  options: MeasureOptions = {},
): Promise<void> {
  const { gpu, model } = core;
  try {
    await sleep(IDLE_MS, options.signal);
    const { candidates = (product) => gemvCandidates(product, gpu.features) } = options;
    const unknown = decodeProducts(model).filter(({ product }) => candidates(product).length > 1 && !tunings.find(gpu, product));
    if (unknown.length === 0) return;
    const start = performance.now();
    const measured = await measureProducts(core, unknown, { ...options, candidates });
    const tuningMs = performance.now() - start;
    await tunings.remember(gpu.adapterName, measured);
    const products = measured.map(({ product, tuning, speedup }) => ({ ...product, tuning, speedup }));
    onEvent({ type: "gemv-tuned", adapter: gpu.adapterName, products, tuningMs });
  } catch (error) {
    // That the engine has come to its end, or was told to stop this, is no news.
    const isAlive = await core.takeTurn(async () => core.gpu === gpu).catch(() => false);
    if (isAlive && !options.signal?.aborted) onEvent({ type: "gemv-tuning-failed", error });
  }
}
