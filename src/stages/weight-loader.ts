// Brings a model's weights from their file to the GPU: ranges are read, packed off the main thread and uploaded, several at
// a time but never more bytes at once than the budget. Layers become usable one by one, in order.
import { assert, present } from "../assert";
import { abortable } from "../bytes/abort";
import { forEachGated, Gate } from "../bytes/gate";
import type { TensorDirectory } from "../formats/tensor-directory";
import { GpuMatrix } from "../model/gpu-matrix";
import type { LayerShapes } from "../model/layer-program";
import { GpuVector, LayerWeights, type NormWeights } from "../model/layer-weights";
import type { Model } from "../model/model";
import type { ModelConfig } from "../weights/model-config";
import {
  checkNothingLeftOver,
  type MatrixPlan,
  type MatrixRole,
  type PlanOptions,
  planFileBytes,
  planGlobals,
  planLayer,
  splitRows,
  type VectorRole,
  type WeightPlan,
} from "../weights/model-weights";
import { freeBuffers } from "../weights/pack-message";
import type { Packer } from "../weights/packer";
import { readMatrix, readVector } from "../weights/read-weights";
import { ByteBudget } from "./byte-budget";

export interface WeightLoadOptions extends PlanOptions {
  readonly signal?: AbortSignal;
  /** Called with each part of the weights that has reached the GPU, in bytes of the file. */
  readonly onLoaded?: (bytes: number) => void;
}

// A matrix is read and packed in pieces of at most this many file bytes.
const PIECE_BYTES = 4 * 2 ** 20;
// File bytes under way at once: enough for four parallel reads. What a load holds in all: docs/loading-memory.md.
const BUDGET_BYTES = 16 * 2 ** 20;

// Layers that load side by side: the next one's reads are under way while this one is packed, and layers still finish in order.
const UNITS_AT_ONCE = 3;

/** What a model's weights are, before any is read. */
export class WeightPlans {
  readonly layers: readonly WeightPlan[];
  readonly outer: WeightPlan;
  readonly totalBytes: number;

  /** @throws LlmError "bad-weights" | "unsupported" where the tensors do not fit the configuration. */
  constructor(config: ModelConfig, directory: TensorDirectory, options: PlanOptions) {
    checkNothingLeftOver(config, directory);
    this.layers = Array.from({ length: config.layerCount }, (_, layer) => planLayer(config, directory, layer, options));
    this.outer = planGlobals(config, directory, options);
    this.totalBytes = [this.outer, ...this.layers].reduce((sum, plan) => sum + planBytes(plan), 0);
  }

  /** The distinct combinations of formats and sizes, each of which needs kernels of its own. */
  layerShapes(): LayerShapes[] {
    const distinct = new Map<string, LayerShapes>();
    for (const plan of this.layers) {
      const shapes = {
        qkv: matrixPlan(plan, "qkv"),
        attentionOutput: matrixPlan(plan, "attentionOutput"),
        up: upPlan(plan),
        down: matrixPlan(plan, "down"),
      };
      distinct.set(
        Object.values(shapes)
          .map(({ format, rows, columns }) => `${format} ${rows} ${columns}`)
          .join(),
        shapes,
      );
    }
    return [...distinct.values()];
  }

  outerShapes(): { readonly embedding: MatrixPlan; readonly head: MatrixPlan } {
    const embedding = matrixPlan(this.outer, "embedding");
    return { embedding, head: this.outer.matrices.find(({ role }) => role === "head") ?? embedding };
  }
}

export class WeightLoader {
  readonly #model: Model;
  readonly #packer: Packer;
  readonly #plans: WeightPlans;
  readonly #options: WeightLoadOptions;
  readonly #budget = new ByteBudget(BUDGET_BYTES);

  constructor(model: Model, packer: Packer, plans: WeightPlans, options: WeightLoadOptions) {
    this.#model = model;
    this.#packer = packer;
    this.#plans = plans;
    this.#options = options;
  }

  /**
   * Loads everything. The first failure ends all that is under way, and nothing writes after it is thrown. What was loaded before stays with
   * the model, whose `destroy` frees it.
   *
   * @throws LlmError of the sources, the packer or the device; the signal's reason.
   */
  async loadAll(): Promise<void> {
    const units = [
      (signal: AbortSignal) => this.#loadOuter(signal),
      ...this.#plans.layers.map((plan, layer) => (signal: AbortSignal) => this.#loadLayer(layer, plan, signal)),
    ];
    await forEachGated(new Gate(UNITS_AT_ONCE), units, this.#options.signal, (load, signal) => load(signal));
  }

  async #loadOuter(signal: AbortSignal): Promise<void> {
    const loaded = await this.#load("outer", this.#plans.outer, signal);
    const embedding = present(loaded.matrices.get("embedding"), "embedding");
    const finalNorm = norm(loaded, "finalNormWeight", "finalNormBias");
    const head = loaded.matrices.get("head") ?? embedding;
    try {
      await abortable(this.#model.setOuter({ embedding, finalNorm, head }), signal);
    } catch (error) {
      destroyAll(loaded);
      throw error;
    }
  }

  async #loadLayer(layer: number, plan: WeightPlan, signal: AbortSignal): Promise<void> {
    const loaded = await this.#load(`layer ${layer}`, plan, signal);
    const { matrices, vectors } = loaded;
    const weights = new LayerWeights({
      attentionNorm: norm(loaded, "attentionNormWeight", "attentionNormBias"),
      qkv: present(matrices.get("qkv"), "qkv"),
      qkvBias: vectors.get("qkvBias") ?? null,
      attentionOutput: present(matrices.get("attentionOutput"), "attentionOutput"),
      mlpNorm: vectors.has("mlpNormWeight") ? norm(loaded, "mlpNormWeight", "mlpNormBias") : null,
      up: present(matrices.get("gateUp") ?? matrices.get("up"), "up"),
      down: present(matrices.get("down"), "down"),
    });
    const slot = present(this.#model.slots[layer], `slot ${layer}`);
    try {
      slot.replace(await abortable(this.#model.prepareLayer(layer, weights), signal))?.destroy();
    } catch (error) {
      weights.destroy();
      throw error;
    }
  }

  async #load(label: string, plan: WeightPlan, signal: AbortSignal): Promise<LoadedWeights> {
    const loaded: LoadedWeights = { matrices: new Map(), vectors: new Map() };
    try {
      for (const vector of plan.vectors) {
        const values = await this.#budget.use(planFileBytes(vector), () => readVector(vector, signal), signal);
        loaded.vectors.set(
          vector.role,
          await this.#allocate(`${label} ${vector.role}`, (name) => new GpuVector(this.#model.context.gpu, name, values)),
        );
        this.#options.onLoaded?.(planFileBytes(vector));
      }
      for (const matrix of plan.matrices) {
        const target = await this.#allocate(`${label} ${matrix.role}`, (name) => new GpuMatrix(this.#model.context.gpu, name, matrix));
        loaded.matrices.set(matrix.role, target);
        const pieces = splitRows(matrix, PIECE_BYTES);
        // All at once, as far as the budget goes.
        await forEachGated(new Gate(pieces.length), pieces, signal, (piece, pieceSignal) => this.#loadPiece(target, piece, pieceSignal));
      }
      return loaded;
    } catch (error) {
      destroyAll(loaded);
      throw error;
    }
  }

  async #loadPiece(
    target: GpuMatrix,
    { rowOffset, plan }: { readonly rowOffset: number; readonly plan: MatrixPlan },
    signal: AbortSignal,
  ): Promise<void> {
    const bytes = planFileBytes(plan);
    await this.#budget.use(
      bytes,
      async () => {
        const packed = await this.#packer.pack(await readMatrix(plan, signal), signal);
        signal.throwIfAborted();
        target.write(rowOffset, packed);
        freeBuffers([packed.codes, packed.scales]);
      },
      signal,
    );
    this.#options.onLoaded?.(bytes);
  }

  #allocate<T extends { destroy(): void }>(label: string, make: (label: string) => T): Promise<T> {
    return this.#model.context.gpu.checked(
      label,
      () => make(label),
      (made) => made.destroy(),
    );
  }
}

interface LoadedWeights {
  readonly matrices: Map<MatrixRole, GpuMatrix>;
  readonly vectors: Map<VectorRole, GpuVector>;
}

function destroyAll({ matrices, vectors }: LoadedWeights): void {
  for (const part of [...matrices.values(), ...vectors.values()]) part.destroy();
}

function norm({ vectors }: LoadedWeights, weight: VectorRole, bias: VectorRole): NormWeights {
  return { weight: present(vectors.get(weight), weight), bias: vectors.get(bias) ?? null };
}

function planBytes(plan: WeightPlan): number {
  return [...plan.matrices, ...plan.vectors].reduce((sum, part) => sum + planFileBytes(part), 0);
}

function matrixPlan(plan: WeightPlan, role: MatrixRole): MatrixPlan {
  return present(
    plan.matrices.find((matrix) => matrix.role === role),
    role,
  );
}

function upPlan(plan: WeightPlan): MatrixPlan {
  const up = plan.matrices.find(({ role }) => role === "gateUp" || role === "up");
  assert(up, "a layer without an up projection");
  return up;
}
