// Where the model's weights come from, whichever device they go to: a loader, and packing workers that go when nothing is left to load.
import { assert } from "../assert";
import type { Gpu } from "../gpu/device";
import type { OuterWeights } from "../model/model";
import { LoadValve } from "../stages/load-valve";
import type { ModelRecipe } from "../stages/model-recipe";
import type { Unit } from "../stages/plan";
import { StageLoader, type StageWeights } from "../stages/stage-loader";
import { Packer, type PackerEvent } from "../weights/packer";
import type { RowSet } from "../weights/row-set";

export interface SupplyOptions {
  /** Bytes of the files that are on the device now. */
  readonly onProgress?: (loadedBytes: number) => void;
  readonly onEvent?: (event: PackerEvent) => void;
}

/** The loader of one device and its packing workers. */
interface Shift {
  readonly packer: Packer;
  readonly loader: StageLoader;
  loads: number;
  /** Nothing is left to load: the workers go with the last load that is under way. */
  mayEnd: boolean;
}

export class WeightSupply {
  readonly recipe: ModelRecipe;
  /** Closed while later stages' reads are to wait. */
  readonly valve = new LoadValve();
  readonly #options: SupplyOptions;
  #gpu: Gpu | null = null;
  #shift: Shift | null = null;
  #onLoaded: (bytes: number) => void = () => undefined;

  constructor(recipe: ModelRecipe, options: SupplyOptions = {}) {
    this.recipe = recipe;
    this.#options = options;
  }

  /** From here on weights go to this device. What is still on its way to another one fails. */
  use(gpu: Gpu): void {
    this.end();
    this.#gpu = gpu;
    let loadedBytes = 0;
    this.#onLoaded = (bytes) => {
      loadedBytes += bytes;
      if (this.#gpu === gpu) this.#options.onProgress?.(loadedBytes); // those of a device before it are heard no more
    };
  }

  /** Throws as `StageLoader.loadFirst` does. */
  loadFirst(units: readonly Unit[], signal: AbortSignal): Promise<StageWeights> {
    return this.#load((loader) => loader.loadFirst(units, signal));
  }

  /** Throws as `StageLoader.loadNext` does. */
  loadNext(units: readonly Unit[], outer: OuterWeights, signal: AbortSignal): Promise<StageWeights> {
    return this.#load((loader) => loader.loadNext(units, outer, signal));
  }

  /** Throws as `StageLoader.fetchEmbeddingRows` does. */
  fetchRows(rows: RowSet, outer: OuterWeights, signal: AbortSignal): Promise<RowSet> {
    return this.#load((loader) => loader.fetchEmbeddingRows(rows, outer, signal));
  }

  /** Nothing is left to load. The workers go once no load is under way, and start again with the next one. */
  rest(): void {
    if (this.#shift?.loads === 0) this.end();
    else if (this.#shift) this.#shift.mayEnd = true;
  }

  /** Ends the workers. Loads under way fail with "disposed". */
  end(): void {
    this.#shift?.packer.dispose();
    this.#shift = null;
  }

  async #load<T>(load: (loader: StageLoader) => Promise<T>): Promise<T> {
    this.#shift ??= this.#newShift();
    const shift = this.#shift;
    shift.loads++;
    try {
      return await load(shift.loader);
    } finally {
      shift.loads--;
      if (shift.mayEnd && shift === this.#shift) this.rest();
    }
  }

  #newShift(): Shift {
    assert(this.#gpu, "weights are loaded before there is a device");
    const packer = new Packer({ ...(this.#options.onEvent && { onEvent: this.#options.onEvent }) });
    const loader = new StageLoader(this.#gpu, packer, this.recipe, { valve: this.valve, onLoaded: this.#onLoaded });
    return { packer, loader, loads: 0, mayEnd: false };
  }
}
