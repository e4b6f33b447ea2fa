// Loads a stage's units from their files to the GPU: reads ranges, packs them off the main thread and uploads them. Several run at a time,
// within a budget of bytes in flight.
import { present } from "../assert";
import { forEachGated, Gate } from "../bytes/gate";
import type { Gpu } from "../gpu/device";
import { GpuMatrix } from "../model/gpu-matrix";
import { GpuVector, LayerWeights, type NormWeights } from "../model/layer-weights";
import { destroyOuter, type OuterWeights } from "../model/model";
import { type MatrixRole, recipeFileBytes, splitRowSet, splitRows, type VectorRole, type WeightRecipe } from "../weights/model-weights";
import { type PackPart, packVector } from "../weights/pack";
import { freeBuffers } from "../weights/pack-message";
import type { Packer } from "../weights/packer";
import { readParts } from "../weights/read-weights";
import { nearbySpans, type RowSet, unionRows } from "../weights/row-set";
import { ByteBudget } from "./byte-budget";
import { inBatches, type LoadItem, matrixItems, rowItems, vectorItems } from "./load-items";
import { LoadValve } from "./load-valve";
import type { ModelRecipe } from "./model-recipe";
import type { Unit } from "./plan";

export interface StageLoaderOptions {
  /** Called with the file bytes of each part that has reached the GPU, and with a negative number when a stage's weights are destroyed. */
  readonly onLoaded?: (bytes: number) => void;
  /** While it is closed, reads of later stages wait. Default: a valve of its own. */
  readonly valve?: LoadValve;
}

/** How a stage's bytes are requested. */
interface Pace {
  /** Reads wait while it is closed; null for reads that cannot wait. */
  readonly valve: LoadValve | null;
  /** Maximum file bytes of one read: larger matrices are split into pieces, small items are batched. */
  readonly pieceBytes: number;
  /** Limits the file bytes in flight. docs/loading-memory.md has what a load holds in all. */
  readonly budget: ByteBudget;
  /** Called with the file bytes of each part that has reached the GPU. */
  readonly onLoaded: (bytes: number) => void;
}

// The visitor waits for the first stage: large pieces, and enough budget for four parallel reads.
const FIRST_PIECE_BYTES = 4 * 2 ** 20;
const FIRST_BUDGET_BYTES = 16 * 2 ** 20;
// A later stage must give way to a chat's own reads quickly: small pieces finish soon, even on a slow link.
const LATER_PIECE_BYTES = 256 * 2 ** 10;
const LATER_BUDGET_BYTES = 2 ** 20;

// Units that load concurrently: the next unit is read while this one is packed, and units still finish in order.
const UNITS_AT_ONCE = 3;

// Rows for a prompt that are this close share one request. A request costs a round trip; a row has 0.5 to 5 kB.
const NEARBY_BYTES = 16 * 2 ** 10;

/** The weights of a stage. Its owner destroys it or hands its parts over. */
export class StageWeights {
  readonly layers: ReadonlyMap<number, LayerWeights>;
  /** The weights outside the layers. Only the first stage has them; the rows of all stages are written into them. */
  readonly outer: OuterWeights | null;
  readonly rows: RowSet;
  readonly #onDestroy: () => void;

  constructor(
    layers: ReadonlyMap<number, LayerWeights>,
    outer: OuterWeights | null,
    rows: RowSet,
    onDestroy: () => void = () => undefined,
  ) {
    this.layers = layers;
    this.outer = outer;
    this.rows = rows;
    this.#onDestroy = onDestroy;
  }

  destroy(): void {
    for (const layer of this.layers.values()) layer.destroy();
    if (this.outer) destroyOuter(this.outer);
    this.#onDestroy();
  }
}

export class StageLoader {
  readonly valve: LoadValve;
  readonly #gpu: Gpu;
  readonly #packer: Packer;
  readonly #recipe: ModelRecipe;
  readonly #options: StageLoaderOptions;

  constructor(gpu: Gpu, packer: Packer, recipe: ModelRecipe, options: StageLoaderOptions = {}) {
    this.#gpu = gpu;
    this.#packer = packer;
    this.#recipe = recipe;
    this.#options = options;
    this.valve = options.valve ?? new LoadValve();
  }

  /**
   * Loads the first stage, as fast as possible.
   *
   * @throws LlmError of the sources, the packer or the device; the signal's reason. All of the stage's weights are freed, and no write follows.
   */
  loadFirst(units: readonly Unit[], signal?: AbortSignal): Promise<StageWeights> {
    return this.#gpu.uploads.during(() => this.#loadStage(units, null, urgentPace(), signal), 0);
  }

  /** Loads a later stage while the valve is open, and writes its rows into `outer`. Throws as `loadFirst` does. */
  loadNext(units: readonly Unit[], outer: OuterWeights, signal?: AbortSignal): Promise<StageWeights> {
    const pace = { ...urgentPace(), valve: this.valve, pieceBytes: LATER_PIECE_BYTES, budget: new ByteBudget(LATER_BUDGET_BYTES) };
    return this.#gpu.uploads.during(() => this.#loadStage(units, outer, pace, signal), 0);
  }

  /** Reads `rows` of the embedding and some nearby ones, ignoring the valve. Returns the rows read. */
  async fetchEmbeddingRows(rows: RowSet, { embedding }: OuterWeights, signal?: AbortSignal): Promise<RowSet> {
    const { embedding: recipe } = this.#recipe.outerShapes();
    const fetched = nearbySpans(rows, Math.floor(NEARBY_BYTES / (recipeFileBytes(recipe) / recipe.rows)));
    const pace = urgentPace();
    const target = Promise.resolve({ matrices: new Map([["embedding" as const, embedding]]), vectors: new Map() });
    const items = matrixItems("embedding", splitRowSet(recipe, fetched, pace.pieceBytes));
    await this.#loadItems(items, target, pace, signal ?? new AbortController().signal);
    return fetched;
  }

  async #loadStage(units: readonly Unit[], outer: OuterWeights | null, uncounted: Pace, signal?: AbortSignal): Promise<StageWeights> {
    const { onLoaded = () => undefined } = this.#options;
    let loadedBytes = 0;
    const count = (bytes: number) => {
      loadedBytes += bytes;
      onLoaded(bytes);
    };
    const takeBack = () => {
      if (loadedBytes > 0) onLoaded(-loadedBytes);
    };
    const pace = { ...uncounted, onLoaded: count };
    const layers = new Map<number, LayerWeights>();
    const rows = unionRows(...units.flatMap((unit) => (unit.kind === "rows" ? [unit.rows] : [])));
    let madeOuter: OuterWeights | null = null;
    const loads = units.map((unit) => async (unitSignal: AbortSignal) => {
      if (unit.kind === "layer") layers.set(unit.layer, await this.#loadLayer(unit.layer, pace, unitSignal));
      else if (outer) await this.#loadRows(unit.rows, outer, pace, unitSignal);
    });
    if (!outer) {
      loads.unshift(async (unitSignal) => {
        madeOuter = await this.#loadOuter(rows, pace, unitSignal);
      });
    }
    try {
      await forEachGated(new Gate(UNITS_AT_ONCE), loads, signal, (load, loadSignal) => load(loadSignal));
      return new StageWeights(layers, madeOuter, rows, takeBack);
    } catch (error) {
      new StageWeights(layers, madeOuter, rows, takeBack).destroy();
      throw error;
    }
  }

  async #loadOuter(rows: RowSet, pace: Pace, signal: AbortSignal): Promise<OuterWeights> {
    const { outer } = this.#recipe;
    // The matrix has room for all rows from the start; rows of later stages are written into it.
    const items = [...vectorItems(outer), ...rowItems(outer, rows, pace.pieceBytes)];
    return outerWeights(await this.#loadUnit("outer", outer, items, pace, signal));
  }

  #loadRows(rows: RowSet, { embedding, head }: OuterWeights, pace: Pace, signal: AbortSignal): Promise<void> {
    const matrices = new Map([
      ["embedding" as const, embedding],
      ["head" as const, head],
    ]);
    return this.#loadItems(
      rowItems(this.#recipe.outer, rows, pace.pieceBytes),
      Promise.resolve({ matrices, vectors: new Map() }),
      pace,
      signal,
    );
  }

  async #loadLayer(layer: number, pace: Pace, signal: AbortSignal): Promise<LayerWeights> {
    const recipe = present(this.#recipe.layers[layer], `recipe of layer ${layer}`);
    const items = [
      ...vectorItems(recipe),
      ...recipe.matrices.flatMap((matrix) => matrixItems(matrix.role, splitRows(matrix, pace.pieceBytes))),
    ];
    return layerWeights(await this.#loadUnit(`layer ${layer}`, recipe, items, pace, signal));
  }

  /** Allocates the whole unit at once, which takes the device a while, and reads in the meantime. */
  async #loadUnit(
    label: string,
    recipe: WeightRecipe,
    items: readonly LoadItem[],
    pace: Pace,
    signal: AbortSignal,
  ): Promise<LoadedWeights> {
    const allocation = this.#gpu.checked(label, () => this.#allocate(label, recipe), destroyWeights);
    allocation.catch(() => undefined); // handled where it is awaited, once there is something to write
    try {
      await this.#loadItems(items, allocation, pace, signal);
      return await allocation;
    } catch (error) {
      await allocation.then(destroyWeights, () => undefined);
      throw error;
    }
  }

  #allocate(label: string, { matrices, vectors }: WeightRecipe): LoadedWeights {
    const made: LoadedWeights = { matrices: new Map(), vectors: new Map() };
    try {
      for (const recipe of matrices) made.matrices.set(recipe.role, new GpuMatrix(this.#gpu, `${label} ${recipe.role}`, recipe));
      for (const { role, length } of vectors) made.vectors.set(role, new GpuVector(this.#gpu, `${label} ${role}`, length));
      return made;
    } catch (error) {
      destroyWeights(made);
      throw error;
    }
  }

  /** Loads all items concurrently, within the budget. Small adjacent items share a read. */
  #loadItems(items: readonly LoadItem[], target: Promise<LoadedWeights>, pace: Pace, signal: AbortSignal): Promise<void> {
    return atOnce(inBatches(items, pace.pieceBytes), signal, async (batch, batchSignal) => {
      const bytes = batch.reduce((sum, { parts }) => sum + recipeFileBytes({ parts }), 0);
      const load = async () => {
        await pace.valve?.pass(batchSignal);
        const read = await readParts(
          batch.flatMap(({ parts }) => parts),
          batchSignal,
        );
        const loads = batch.map((item) => ({ item, parts: read.splice(0, item.parts.length) }));
        await atOnce(loads, batchSignal, ({ item, parts }, itemSignal) => this.#put(item, parts, target, itemSignal));
      };
      await pace.budget.use(bytes, load, batchSignal);
      pace.onLoaded(bytes);
    });
  }

  async #put(item: LoadItem, parts: readonly PackPart[], target: Promise<LoadedWeights>, signal: AbortSignal): Promise<void> {
    if (item.kind === "vector") {
      const values = packVector(item.length, parts);
      const { vectors } = await target;
      signal.throwIfAborted();
      present(vectors.get(item.role), item.role).write(values);
      return;
    }
    const { format, rows, columns, rowOffset, role } = item;
    const packed = await this.#packer.pack({ format, rows, columns, parts }, signal);
    const { matrices } = await target;
    signal.throwIfAborted();
    await present(matrices.get(role), role).write(rowOffset, packed, signal);
    freeBuffers([packed.codes, packed.scales]);
  }
}

function urgentPace(): Pace {
  return { valve: null, pieceBytes: FIRST_PIECE_BYTES, budget: new ByteBudget(FIRST_BUDGET_BYTES), onLoaded: () => undefined };
}

interface LoadedWeights {
  readonly matrices: Map<MatrixRole, GpuMatrix>;
  readonly vectors: Map<VectorRole, GpuVector>;
}

function destroyWeights({ matrices, vectors }: LoadedWeights): void {
  for (const part of [...matrices.values(), ...vectors.values()]) part.destroy();
}

/** Works on all items concurrently; the first failure ends the others. */
async function atOnce<T>(items: readonly T[], signal: AbortSignal, work: (item: T, signal: AbortSignal) => Promise<void>): Promise<void> {
  if (items.length > 0) await forEachGated(new Gate(items.length), items, signal, work);
}

function outerWeights(loaded: LoadedWeights): OuterWeights {
  const embedding = present(loaded.matrices.get("embedding"), "embedding");
  return { embedding, finalNorm: norm(loaded, "finalNormWeight", "finalNormBias"), head: loaded.matrices.get("head") ?? embedding };
}

function layerWeights(loaded: LoadedWeights): LayerWeights {
  const { matrices, vectors } = loaded;
  return new LayerWeights({
    attentionNorm: norm(loaded, "attentionNormWeight", "attentionNormBias"),
    qkv: present(matrices.get("qkv"), "qkv"),
    qkvBias: vectors.get("qkvBias") ?? null,
    attentionOutput: present(matrices.get("attentionOutput"), "attentionOutput"),
    mlpNorm: vectors.has("mlpNormWeight") ? norm(loaded, "mlpNormWeight", "mlpNormBias") : null,
    up: present(matrices.get("gateUp") ?? matrices.get("up"), "up"),
    down: present(matrices.get("down"), "down"),
  });
}

function norm({ vectors }: LoadedWeights, weight: VectorRole, bias: VectorRole): NormWeights {
  return { weight: present(vectors.get(weight), weight), bias: vectors.get(bias) ?? null };
}
