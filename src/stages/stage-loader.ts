// Brings a stage's units from their files to the GPU: ranges are read, packed off the main thread and uploaded, several at
// a time but never more bytes at once than the budget.
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
  /** Called with each part of the weights that has reached the GPU, in bytes of the files; with less than zero when a stage's are destroyed. */
  readonly onLoaded?: (bytes: number) => void;
  /** Closed while later stages' reads are to wait. One of its own unless given. */
  readonly valve?: LoadValve;
}

/** How a stage's bytes are asked for. */
interface Pace {
  /** Where each read stops while it is closed; null for what cannot wait. */
  readonly valve: LoadValve | null;
  /** What is read at once: a matrix in pieces of at most this many file bytes, small things together up to as many. */
  readonly pieceBytes: number;
  /** File bytes under way at once. What a load holds in all: docs/loading-memory.md. */
  readonly budget: ByteBudget;
  /** Called with the file bytes of each part that has reached the GPU. */
  readonly onLoaded: (bytes: number) => void;
}

// Somebody waits for the first stage: large pieces, enough of them for four parallel reads.
const FIRST_PIECE_BYTES = 4 * 2 ** 20;
const FIRST_BUDGET_BYTES = 16 * 2 ** 20;
// A later stage gives way to a chat's own reads at once: what is under way is soon over, also on a slow link.
const LATER_PIECE_BYTES = 256 * 2 ** 10;
const LATER_BUDGET_BYTES = 2 ** 20;

// Units that load side by side: the next one's reads are under way while this one is packed, and units still finish in order.
const UNITS_AT_ONCE = 3;

// Rows that a prompt needs are read in one request where they lie this close. Each request costs a round trip; a row has 0.5 to 5 kB.
const NEARBY_BYTES = 16 * 2 ** 10;

/** What a stage brings. Whoever holds it destroys it, or hands its parts over. */
export class StageWeights {
  readonly layers: ReadonlyMap<number, LayerWeights>;
  /** What surrounds the layers: with the first stage only, whose rows, and all later ones', are written into it. */
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
   * Loads the first stage, as fast as it comes.
   *
   * @throws LlmError of the sources, the packer or the device; the signal's reason. Nothing of the stage is left then, and nothing writes after it.
   */
  loadFirst(units: readonly Unit[], signal?: AbortSignal): Promise<StageWeights> {
    return this.#gpu.uploads.during(() => this.#loadStage(units, null, urgentPace(), signal), 0);
  }

  /** Loads a later stage, while the valve is open; its rows are written into `outer`. Throws as `loadFirst` does. */
  loadNext(units: readonly Unit[], outer: OuterWeights, signal?: AbortSignal): Promise<StageWeights> {
    const pace = { ...urgentPace(), valve: this.valve, pieceBytes: LATER_PIECE_BYTES, budget: new ByteBudget(LATER_BUDGET_BYTES) };
    return this.#gpu.uploads.during(() => this.#loadStage(units, outer, pace, signal), 0);
  }

  /** Reads `rows` of the embedding, and some that lie near, past the valve. Gives the rows that are there now. */
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
    // All rows have their place from the start: what comes later is written beside what is there.
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

  /** Allocates all of a unit at once, which takes the device a while, and reads meanwhile. */
  async #loadUnit(
    label: string,
    recipe: WeightRecipe,
    items: readonly LoadItem[],
    pace: Pace,
    signal: AbortSignal,
  ): Promise<LoadedWeights> {
    const allocation = this.#gpu.checked(label, () => this.#allocate(label, recipe), destroyWeights);
    allocation.catch(() => undefined); // seen where it is awaited, once there is something to write
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

  /** All at once, as far as the budget goes; small ones that lie together are read together. */
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

/** As many at once as there are; the first failure ends the others. */
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
