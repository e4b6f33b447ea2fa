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

export class WeightSupply {
  readonly recipe: ModelRecipe;
  /** Closed while later stages' reads are to wait. */
  readonly valve = new LoadValve();
  readonly #options: SupplyOptions;
  #gpu: Gpu | null = null;
  #packer: Packer | null = null;
  #loader: StageLoader | null = null;
  #onLoaded: (bytes: number) => void = () => undefined;

  constructor(recipe: ModelRecipe, options: SupplyOptions = {}) {
    this.recipe = recipe;
    this.#options = options;
  }

  /** From here on weights go to this device. What is still on its way to another one fails. */
  use(gpu: Gpu): void {
    this.rest();
    this.#gpu = gpu;
    let loadedBytes = 0;
    this.#onLoaded = (bytes) => {
      loadedBytes += bytes;
      if (this.#gpu === gpu) this.#options.onProgress?.(loadedBytes); // those of a device before it are heard no more
    };
  }

  /** Throws as `StageLoader.loadFirst` does. */
  loadFirst(units: readonly Unit[], signal: AbortSignal): Promise<StageWeights> {
    return this.#current.loadFirst(units, signal);
  }

  /** Throws as `StageLoader.loadNext` does. */
  loadNext(units: readonly Unit[], outer: OuterWeights, signal: AbortSignal): Promise<StageWeights> {
    return this.#current.loadNext(units, outer, signal);
  }

  /** Throws as `StageLoader.fetchEmbeddingRows` does. */
  fetchRows(rows: RowSet, outer: OuterWeights, signal: AbortSignal): Promise<RowSet> {
    return this.#current.fetchEmbeddingRows(rows, outer, signal);
  }

  /** Ends the workers. They start again with the next load. */
  rest(): void {
    this.#packer?.dispose();
    this.#packer = null;
    this.#loader = null;
  }

  get #current(): StageLoader {
    assert(this.#gpu, "weights are loaded before there is a device");
    this.#packer ??= new Packer({ ...(this.#options.onEvent && { onEvent: this.#options.onEvent }) });
    this.#loader ??= new StageLoader(this.#gpu, this.#packer, this.recipe, { valve: this.valve, onLoaded: this.#onLoaded });
    return this.#loader;
  }
}
