// Which cuts of decode's products were measured fastest, by adapter: read from a store with each load, added to when more were measured.

import type { Gpu } from "../gpu/device";
import { GEMV_VERSION, type GemvProduct, gemvCandidates, productKey, tuningKey } from "../kernels/gemv-candidates";
import { type GemvTuning, gemvTuning } from "../kernels/matmul-vector";
import type { MeasuredProduct } from "./gemv-measure";

/** Where a small text is kept from one visit to the next. Another store, or none, is the application's choice. */
export interface TuningStore {
  /** What was written last; null where nothing was. */
  read(): Promise<string | null>;
  write(text: string): Promise<void>;
}

/** A decode product, and the cut that is fastest here. */
export interface TunedProduct extends GemvProduct {
  readonly tuning: GemvTuning;
  /** How many times as fast as the cut that is taken unmeasured; 1 where it is that one. */
  readonly speedup: number;
}

export type TuningEvent =
  /** Measured while nobody asked anything; the next load on this adapter takes them. */
  | { readonly type: "gemv-tuned"; readonly adapter: string; readonly products: readonly TunedProduct[]; readonly tuningMs: number }
  /** The store gave nothing to go by, or took nothing: products have the cuts that are taken unmeasured, and are measured again. */
  | { readonly type: "tunings-unavailable"; readonly reason: string }
  | { readonly type: "gemv-tuning-failed"; readonly error: unknown };

/** Names of cuts by product, by adapter. */
type Tunings = Map<string, Map<string, string>>;

export class GemvTunings {
  readonly #store: TuningStore;
  readonly #onEvent: (event: TuningEvent) => void;
  /** As they were when the load began. */
  readonly #known: Tunings;

  private constructor(store: TuningStore, onEvent: (event: TuningEvent) => void, known: Tunings) {
    this.#store = store;
    this.#onEvent = onEvent;
    this.#known = known;
  }

  /** Never fails: where the store does, nothing is known. */
  static async read(store: TuningStore, onEvent: (event: TuningEvent) => void): Promise<GemvTunings> {
    return new GemvTunings(store, onEvent, await readStore(store, onEvent));
  }

  /** What the load found for the product, if it is one of its candidates here. */
  find({ adapterName, features }: TunedDevice, product: GemvProduct): GemvTuning | null {
    const name = this.#known.get(adapterName)?.get(productKey(product));
    return (name && gemvCandidates(product, features).find((tuning) => tuningKey(tuning) === name)) || null;
  }

  /** For the next load: adds to what the store has by now. */
  async remember(adapterName: string, measured: readonly MeasuredProduct[]): Promise<void> {
    const tunings = await readStore(this.#store, () => undefined); // the load told of what it did not understand
    const own = tunings.get(adapterName) ?? new Map<string, string>();
    tunings.set(adapterName, own);
    for (const { product, tuning } of measured) own.set(productKey(product), tuningKey(tuning));
    try {
      await this.#store.write(formatTunings(tunings));
    } catch (error) {
      this.#onEvent({ type: "tunings-unavailable", reason: `what was measured could not be stored: ${error}` });
    }
  }
}

type TunedDevice = Pick<Gpu, "adapterName" | "features">;

/** The cut that the products of an engine on this device have, from load to load. */
export function tuningsOn(gpu: TunedDevice, tunings: GemvTunings | undefined): (product: GemvProduct) => GemvTuning {
  return (product) => tunings?.find(gpu, product) ?? gemvTuning(product.format, product.rows, product.columns, gpu.features);
}

async function readStore(store: TuningStore, onEvent: (event: TuningEvent) => void): Promise<Tunings> {
  try {
    const text = await store.read();
    return text === null ? new Map() : parseTunings(text);
  } catch (error) {
    onEvent({ type: "tunings-unavailable", reason: error instanceof Error ? error.message : String(error) });
    return new Map();
  }
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> => typeof value === "object" && value !== null;

/** @throws Error saying what is wrong with the text. */
function parseTunings(text: string): Tunings {
  const json: unknown = JSON.parse(text);
  if (!isRecord(json) || !isRecord(json.adapters)) throw new Error("the stored tunings have no adapters");
  if (json.version !== GEMV_VERSION) throw new Error(`the stored tunings are of version ${json.version}; this is ${GEMV_VERSION}`);
  const tunings: Tunings = new Map();
  for (const [adapter, products] of Object.entries(json.adapters)) {
    if (!isRecord(products)) throw new Error(`the stored tunings of ${adapter} are no list of products`);
    tunings.set(adapter, new Map(Object.entries(products).map(([key, name]) => [key, String(name)])));
  }
  return tunings;
}

function formatTunings(tunings: Tunings): string {
  const adapters = Object.fromEntries([...tunings].map(([adapter, products]) => [adapter, Object.fromEntries(products)]));
  return JSON.stringify({ version: GEMV_VERSION, adapters }, null, 1);
}
