// The GEMV parameters that were measured fastest, by adapter and product. Each load reads them from a store; measuring adds to it.
import { GEMV_VERSION, type GemvProduct, gemvCandidates, productKey, tuningKey } from "../kernels/gemv-candidates";
import { type GemvTuning, gemvTuning } from "../kernels/matmul-vector";
import { adapterKey, type TunedDevice } from "./adapter-key";

/** Keeps one small text between visits. Applications may pass their own. */
export interface TuningStore {
  /** The text written last, or null if there is none. */
  read(): Promise<string | null>;
  write(text: string): Promise<void>;
}

/** A matrix-vector product of the decode step, with the parameters that are fastest on this device. */
export interface TunedProduct extends GemvProduct {
  readonly tuning: GemvTuning;
  /** Speed-up over the default parameters; 1 if the default won. */
  readonly speedup: number;
}

export type TuningEvent =
  /** GEMV parameters were benchmarked while the engine was idle. The next load on this adapter uses them. */
  | { readonly type: "gemv-tuned"; readonly adapter: string; readonly products: readonly TunedProduct[]; readonly tuningMs: number }
  /** The store could not be read or written. The engine uses default parameters and benchmarks again. */
  | { readonly type: "tunings-unavailable"; readonly reason: string }
  | { readonly type: "gemv-tuning-failed"; readonly error: unknown };

/** adapterKey → productKey → tuningKey */
type Tunings = Map<string, Map<string, string>>;

export class GemvTunings {
  readonly #store: TuningStore;
  readonly #onEvent: (event: TuningEvent) => void;
  /** As read when the load began: an engine's parameters never change, so its answers do not either. */
  readonly #known: Tunings;

  private constructor(store: TuningStore, onEvent: (event: TuningEvent) => void, known: Tunings) {
    this.#store = store;
    this.#onEvent = onEvent;
    this.#known = known;
  }

  /** Never rejects. If the store fails, nothing is known. */
  static async read(store: TuningStore, onEvent: (event: TuningEvent) => void): Promise<GemvTunings> {
    return new GemvTunings(store, onEvent, await readStore(store, onEvent));
  }

  /** The stored tuning, if it is one of the product's candidates on this device; null otherwise. */
  find(device: TunedDevice, product: GemvProduct): GemvTuning | null {
    const name = this.#known.get(adapterKey(device))?.get(productKey(product));
    return (name && gemvCandidates(product, device.features).find((tuning) => tuningKey(tuning) === name)) || null;
  }

  /** Adds to the store for the next load. Reads it again first: another tab may have written meanwhile. Never rejects. */
  async remember(device: TunedDevice, products: readonly TunedProduct[]): Promise<void> {
    const tunings = await readStore(this.#store, () => undefined); // the load has reported an unreadable store
    const key = adapterKey(device);
    const own = tunings.get(key) ?? new Map<string, string>();
    tunings.set(key, own);
    for (const product of products) own.set(productKey(product), tuningKey(product.tuning));
    try {
      await this.#store.write(formatTunings(tunings));
    } catch (error) {
      this.#onEvent({ type: "tunings-unavailable", reason: `The measured GEMV parameters could not be stored: ${messageOf(error)}` });
    }
  }
}

/** The parameters for every product of an engine on this device: the stored ones where there are any, else the default. */
export function tuningsOn(device: TunedDevice, tunings: GemvTunings | undefined): (product: GemvProduct) => GemvTuning {
  return (product) => tunings?.find(device, product) ?? gemvTuning(product.format, product.rows, product.columns, device.features);
}

async function readStore(store: TuningStore, onEvent: (event: TuningEvent) => void): Promise<Tunings> {
  try {
    const text = await store.read();
    return text === null ? new Map() : parseTunings(text);
  } catch (error) {
    onEvent({ type: "tunings-unavailable", reason: `The stored GEMV parameters could not be read: ${messageOf(error)}` });
    return new Map();
  }
}

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error));

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> => typeof value === "object" && value !== null;

/** @throws Error that says what is wrong with the text */
function parseTunings(text: string): Tunings {
  const json: unknown = JSON.parse(text);
  if (!isRecord(json) || !isRecord(json.adapters)) throw new Error('found no object "adapters"');
  if (json.version !== GEMV_VERSION) throw new Error(`found version ${json.version}, expected ${GEMV_VERSION}`);
  const tunings: Tunings = new Map();
  for (const [adapter, products] of Object.entries(json.adapters)) {
    if (!isRecord(products)) throw new Error(`found a ${typeof products} for an adapter, expected an object of products`);
    tunings.set(adapter, new Map(Object.entries(products).map(([key, name]) => [key, String(name)])));
  }
  return tunings;
}

function formatTunings(tunings: Tunings): string {
  const adapters = Object.fromEntries([...tunings].map(([adapter, products]) => [adapter, Object.fromEntries(products)]));
  return JSON.stringify({ version: GEMV_VERSION, adapters }, null, 1);
}
