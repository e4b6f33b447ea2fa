// Brings a stage's units from their files to the GPU: ranges are read, packed off the main thread and uploaded, several at
// a time but never more bytes at once than the budget.
import { present } from "../assert";
import { forEachGated, Gate } from "../bytes/gate";
import type { Gpu } from "../gpu/device";
import { GpuMatrix } from "../model/gpu-matrix";
import { GpuVector, LayerWeights, type NormWeights } from "../model/layer-weights";
import { destroyOuter, type OuterWeights } from "../model/model";
import {
  type MatrixPiece,
  type MatrixPlan,
  type MatrixRole,
  planFileBytes,
  splitRowSet,
  splitRows,
  type VectorPlan,
  type VectorRole,
} from "../weights/model-weights";
import { freeBuffers } from "../weights/pack-message";
import type { Packer } from "../weights/packer";
import { readMatrix, readVector } from "../weights/read-weights";
import { nearbySpans, type RowSet, unionRows } from "../weights/row-set";
import { ByteBudget } from "./byte-budget";
import { LoadValve } from "./load-valve";
import type { Unit } from "./plan";
import type { WeightPlans } from "./weight-plans";

export interface StageLoaderOptions {
  /** Called with each part of the weights that has reached the GPU, in bytes of the files. */
  readonly onLoaded?: (bytes: number) => void;
  /** Closed while later stages' reads are to wait. One of its own unless given. */
  readonly valve?: LoadValve;
}

/** How a stage's bytes are asked for. */
interface Pace {
  /** Where each read stops while it is closed; null for what cannot wait. */
  readonly valve: LoadValve | null;
  /** A matrix is read and packed in pieces of at most this many file bytes. */
  readonly pieceBytes: number;
  /** File bytes under way at once. What a load holds in all: docs/loading-memory.md. */
  readonly budget: ByteBudget;
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

  constructor(layers: ReadonlyMap<number, LayerWeights>, outer: OuterWeights | null, rows: RowSet) {
    this.layers = layers;
    this.outer = outer;
    this.rows = rows;
  }

  destroy(): void {
    for (const layer of this.layers.values()) layer.destroy();
    if (this.outer) destroyOuter(this.outer);
  }
}

export class StageLoader {
  readonly valve: LoadValve;
  readonly #gpu: Gpu;
  readonly #packer: Packer;
  readonly #plans: WeightPlans;
  readonly #options: StageLoaderOptions;

  constructor(gpu: Gpu, packer: Packer, plans: WeightPlans, options: StageLoaderOptions = {}) {
    this.#gpu = gpu;
    this.#packer = packer;
    this.#plans = plans;
    this.#options = options;
    this.valve = options.valve ?? new LoadValve();
  }

  /**
   * Loads the first stage, as fast as it comes.
   *
   * @throws LlmError of the sources, the packer or the device; the signal's reason. Nothing of the stage is left then, and nothing writes after it.
   */
  loadFirst(units: readonly Unit[], signal?: AbortSignal): Promise<StageWeights> {
    return this.#loadStage(units, null, urgentPace(), signal);
  }

  /** Loads a later stage, while the valve is open; its rows are written into `outer`. Throws as `loadFirst` does. */
  loadNext(units: readonly Unit[], outer: OuterWeights, signal?: AbortSignal): Promise<StageWeights> {
    const pace = { valve: this.valve, pieceBytes: LATER_PIECE_BYTES, budget: new ByteBudget(LATER_BUDGET_BYTES) };
    return this.#loadStage(units, outer, pace, signal);
  }

  /** Reads `rows` of the embedding, and some that lie near, past the valve. Gives the rows that are there now. */
  async fetchEmbeddingRows(rows: RowSet, { embedding }: OuterWeights, signal?: AbortSignal): Promise<RowSet> {
    const { embedding: plan } = this.#plans.outerShapes();
    const fetched = nearbySpans(rows, Math.floor(NEARBY_BYTES / (planFileBytes(plan) / plan.rows)));
    const pace = urgentPace();
    await this.#loadPieces(
      embedding,
      splitRowSet(plan, fetched, pace.pieceBytes),
      pace,
      signal ?? new AbortController().signal,
      () => undefined,
    );
    return fetched;
  }

  async #loadStage(units: readonly Unit[], outer: OuterWeights | null, pace: Pace, signal?: AbortSignal): Promise<StageWeights> {
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
      return new StageWeights(layers, madeOuter, rows);
    } catch (error) {
      new StageWeights(layers, madeOuter, rows).destroy();
      throw error;
    }
  }

  async #loadOuter(rows: RowSet, pace: Pace, signal: AbortSignal): Promise<OuterWeights> {
    const { matrices: plans, vectors } = this.#plans.outer;
    const loaded: LoadedWeights = { matrices: new Map(), vectors: new Map() };
    return destroyedOnFailure(loaded, async () => {
      await this.#loadVectors("outer", vectors, loaded, pace, signal);
      // All rows have their place from the start: what comes later is written beside what is there.
      for (const plan of plans) loaded.matrices.set(plan.role, await this.#allocateMatrix("outer", plan));
      const embedding = present(loaded.matrices.get("embedding"), "embedding");
      const outer = {
        embedding,
        finalNorm: norm(loaded, "finalNormWeight", "finalNormBias"),
        head: loaded.matrices.get("head") ?? embedding,
      };
      await this.#loadRows(rows, outer, pace, signal);
      return outer;
    });
  }

  async #loadRows(rows: RowSet, { embedding, head }: OuterWeights, pace: Pace, signal: AbortSignal): Promise<void> {
    for (const plan of this.#plans.outer.matrices) {
      const target = plan.role === "head" ? head : embedding;
      await this.#loadPieces(target, splitRowSet(plan, rows, pace.pieceBytes), pace, signal, this.#options.onLoaded);
    }
  }

  async #loadLayer(layer: number, pace: Pace, signal: AbortSignal): Promise<LayerWeights> {
    const plan = present(this.#plans.layers[layer], `plan of layer ${layer}`);
    const label = `layer ${layer}`;
    const loaded: LoadedWeights = { matrices: new Map(), vectors: new Map() };
    return destroyedOnFailure(loaded, async () => {
      await this.#loadVectors(label, plan.vectors, loaded, pace, signal);
      for (const matrix of plan.matrices) {
        const target = await this.#allocateMatrix(label, matrix);
        loaded.matrices.set(matrix.role, target);
        await this.#loadPieces(target, splitRows(matrix, pace.pieceBytes), pace, signal, this.#options.onLoaded);
      }
      return layerWeights(loaded);
    });
  }

  async #loadVectors(label: string, plans: readonly VectorPlan[], loaded: LoadedWeights, pace: Pace, signal: AbortSignal): Promise<void> {
    for (const plan of plans) {
      const bytes = planFileBytes(plan);
      const read = async () => {
        await pace.valve?.pass(signal);
        return readVector(plan, signal);
      };
      const values = await pace.budget.use(bytes, read, signal);
      loaded.vectors.set(plan.role, await this.#allocate(`${label} ${plan.role}`, (name) => new GpuVector(this.#gpu, name, values)));
      this.#options.onLoaded?.(bytes);
    }
  }

  /** All at once, as far as the budget goes. */
  async #loadPieces(
    target: GpuMatrix,
    pieces: readonly MatrixPiece[],
    pace: Pace,
    signal: AbortSignal,
    onLoaded: (bytes: number) => void = () => undefined,
  ): Promise<void> {
    if (pieces.length === 0) return;
    await forEachGated(new Gate(pieces.length), pieces, signal, async ({ rowOffset, plan }, pieceSignal) => {
      const bytes = planFileBytes(plan);
      const load = async () => {
        await pace.valve?.pass(pieceSignal);
        const packed = await this.#packer.pack(await readMatrix(plan, pieceSignal), pieceSignal);
        pieceSignal.throwIfAborted();
        target.write(rowOffset, packed);
        freeBuffers([packed.codes, packed.scales]);
      };
      await pace.budget.use(bytes, load, pieceSignal);
      onLoaded(bytes);
    });
  }

  #allocateMatrix(label: string, plan: MatrixPlan): Promise<GpuMatrix> {
    return this.#allocate(`${label} ${plan.role}`, (name) => new GpuMatrix(this.#gpu, name, plan));
  }

  #allocate<T extends { destroy(): void }>(label: string, make: (label: string) => T): Promise<T> {
    return this.#gpu.checked(
      label,
      () => make(label),
      (made) => made.destroy(),
    );
  }
}

function urgentPace(): Pace {
  return { valve: null, pieceBytes: FIRST_PIECE_BYTES, budget: new ByteBudget(FIRST_BUDGET_BYTES) };
}

interface LoadedWeights {
  readonly matrices: Map<MatrixRole, GpuMatrix>;
  readonly vectors: Map<VectorRole, GpuVector>;
}

async function destroyedOnFailure<T>({ matrices, vectors }: LoadedWeights, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (error) {
    for (const part of [...matrices.values(), ...vectors.values()]) part.destroy();
    throw error;
  }
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
