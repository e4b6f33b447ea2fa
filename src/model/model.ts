// The forward pass: embedding, the layers present in their slots, final norm and head. It only encodes; the engine submits.
import { assert, present } from "../assert";
import type { GpuTensor } from "../gpu/buffer";
import { embedding } from "../kernels/embedding";
import { type GemvBatchChoice, gemvBatch } from "../kernels/gemv-batch";
import type { StepShape } from "../kernels/step-shape";
import type { KvGroup } from "../kv/kv-cache";
import { coverRows, type RowSet } from "../weights/row-set";
import type { GpuMatrix, MatrixShape } from "./gpu-matrix";
import { ROW_ALIGNMENT, splitRows } from "./gpu-matrix";
import type { Lane } from "./lane";
import { bindNorm, compileLastNorm, compileNorm, LayerKernels, type LayerShapes, type ProgramPlace, stepsOf } from "./layer-program";
import { LayerSlot, type ReadyLayer } from "./layer-slot";
import type { LayerWeights, NormWeights } from "./layer-weights";
import { Linear } from "./linear";
import { headUse } from "./linear-uses";
import type { ProgramContext } from "./program-context";
import { NO_RESIDUALS, type ResidualSteps } from "./residual-steps";
import { type Step, VectorStep } from "./vector-step";
import { encodeInput, encodeLayers, type Walk } from "./walk";

/** The weights outside the layers. In tied models, one matrix is both embedding and head. */
export interface OuterWeights {
  readonly embedding: GpuMatrix;
  readonly finalNorm: NormWeights;
  readonly head: GpuMatrix;
}

export interface OuterShapes {
  readonly embedding: MatrixShape;
  readonly head: MatrixShape;
}

export function destroyOuter({ embedding: matrix, head, finalNorm }: OuterWeights): void {
  matrix.destroy();
  if (head !== matrix) head.destroy();
  finalNorm.weight.destroy();
  finalNorm.bias?.destroy();
}

/** Final norm and head of the last rows of `x`. Writes the `logits` of the head's present rows. */
export interface HeadProgram {
  readonly rows: RowSet;
  readonly steps: readonly Step[];
}

interface Outer {
  readonly weights: OuterWeights;
  readonly norm: Awaited<ReturnType<typeof compileNorm>>;
  /** Into the main lane. */
  readonly embed: readonly Step[];
}

export class Model {
  readonly context: ProgramContext;
  readonly slots: readonly LayerSlot[];
  #outer: Outer | null = null;
  #head: HeadProgram | null = null;
  #residuals: ResidualSteps = NO_RESIDUALS;
  /** By what they are prepared for: what is replaced is forgotten. */
  readonly #batches = new WeakMap<readonly Step[], Promise<void>>();

  constructor(context: ProgramContext) {
    this.context = context;
    this.slots = Array.from({ length: context.config.layerCount }, (_, layer) => new LayerSlot(layer));
  }

  /** Compiles and binds a layer's kernels. `LayerSlot.replace` then only swaps. */
  async prepareLayer(layer: number, weights: LayerWeights, place: ProgramPlace): Promise<ReadyLayer> {
    const kernels = await LayerKernels.compile(this.context, weights.parts);
    return { weights, program: kernels.program(layer, weights, place) };
  }

  /** A chunk of rows through a layer over positions whose K/V is cached. The K/V is not changed. */
  async prepareReread(layer: number, weights: LayerWeights, place: ProgramPlace): Promise<readonly Step[]> {
    return (await LayerKernels.compile(this.context, weights.parts)).reread(layer, weights, place);
  }

  /** Like `walk`, but for the layers of `groups` it uses the ones in their slots, and reads their cached K/V without writing it. */
  async rereadingWalk(walk: Walk, groups: readonly KvGroup[]): Promise<Walk> {
    const rereads = new Map<number, readonly Step[]>();
    for (const group of groups) {
      for (const layer of group.layers) {
        const weights = present(this.slots[layer]?.weights, `weights of layer ${layer}`);
        rereads.set(layer, await this.prepareReread(layer, weights, { group, lane: walk.lane }));
      }
    }
    return { ...walk, layer: (layer, shape) => rereads.get(layer) ?? walk.layer(layer, shape) };
  }

  /** Embeds the tokens of a lane's state into its `x`. */
  async prepareEmbedding(lane: Lane): Promise<readonly Step[]> {
    return this.#bindEmbedding(this.weights.embedding, lane);
  }

  /** The head for the present `rows` and some rows between them. The logits of those in between are meaningless. */
  async prepareHead(rows: RowSet): Promise<HeadProgram> {
    return this.#bindHead(this.weights, rows);
  }

  /** Starts to compile the kernels for weights of these shapes while their bytes are still being downloaded. */
  async warmUp(layers: Iterable<LayerShapes>, outer: OuterShapes, headRows: RowSet): Promise<void> {
    const { config } = this.context;
    await Promise.all([
      ...[...layers].map((shapes) => LayerKernels.compile(this.context, shapes)),
      this.#compileEmbedding(outer.embedding),
      Linear.compileRows(this.context, outer.head, headUse(this.context), headSpans(headRows, outer.head)),
      compileNorm(this.context),
      config.norm === "rms" ? null : compileLastNorm(this.context),
    ]);
  }

  /** Once this resolves, the model owns the weights. */
  async setOuter(weights: OuterWeights, headRows: RowSet): Promise<void> {
    const [embed, head, norm] = await Promise.all([
      this.#bindEmbedding(weights.embedding, this.context.lane),
      this.#bindHead(weights, headRows),
      compileNorm(this.context),
    ]);
    this.#outer = { weights, norm, embed };
    this.#head = head;
  }

  useHead(head: HeadProgram): void {
    this.#head = head;
  }

  /** Records residuals to these pages from the next step on. */
  useResiduals(residuals: ResidualSteps): void {
    this.#residuals = residuals;
  }

  /** Stops recording the residual that enters `layer`. */
  forgetResidual(layer: number): void {
    const without = (steps: ReadonlyMap<number, Step>) => new Map([...steps].filter(([entered]) => entered !== layer));
    this.#residuals = { stores: without(this.#residuals.stores), loads: without(this.#residuals.loads) };
  }

  /** The tokens that the head computes logits for. */
  get headRows(): RowSet {
    return this.#head?.rows ?? [];
  }

  get weights(): OuterWeights {
    return this.#ready().weights;
  }

  /** Embedding and layers for the rows of the state, each of another sequence. Their residuals are in `x` afterwards. */
  encodeDecode(pass: GPUComputePassEncoder, { rows, positions }: StepShape): void {
    const { walk } = this;
    const shape = { rows, positions, apart: true };
    encodeInput(pass, walk, shape, 0);
    encodeLayers(pass, walk, shape, 0, this.slots.length);
  }

  /**
   * Compiles what lets the layers and the head that are in place compute several rows of a decode step at once. They use it from when this resolves
   * on. Until then, where a row by itself is faster, and where a kernel does not compile (of which the device's listeners hear), they go on as they are.
   * Most engines never have such a step; asking again costs nothing where all is prepared.
   */
  async prepareBatches(choice: GemvBatchChoice | null = this.context.gpu.features.software ? null : gemvBatch): Promise<void> {
    if (!choice) return;
    const lists = [...this.slots.map(({ program }) => program?.decode), this.#head?.steps];
    await Promise.all(lists.map((steps) => steps && this.#prepareBatches(steps, choice)));
  }

  /** The walk through the layers on the main lane. */
  get walk(): Walk {
    const { embed } = this.#ready();
    const { context } = this;
    const layer: Walk["layer"] = (index, shape) => stepsOf(this.slots[index]?.program, shape, context);
    return { lane: context.lane, embed, residuals: this.#residuals, layer };
  }

  /**
   * Final norm and head of the last row of the step, or of all rows of a decode step, to `logits` [samples, vocab]. Absent rows' logits stay what
   * they were.
   */
  encodeHead(pass: GPUComputePassEncoder, samples: number): void {
    assert(this.#head, "the head is not loaded");
    encode(pass, this.#head.steps, { rows: samples, positions: samples, apart: samples > 1 });
  }

  /** Final norm and head over a chunk's rows: `x` to `normed` to `logits` [rows, vocab]. For evaluation, not for chat. */
  async bindHeadRows(logits: GpuTensor): Promise<readonly Step[]> {
    const { scratch, lane } = this.context;
    const { norm, weights } = this.#ready();
    // x stays f32 here in any case, as it does for the head of an answer.
    const head = await Linear.compile({ ...this.context, dp4a: false }, weights.head, headUse(this.context));
    const normed = scratch.tensor("normed");
    const state = lane.tensor("state");
    return [
      bindNorm(norm, weights.finalNorm, state, lane.tensor("x"), normed),
      ...head.bindTile(weights.head, { state, x: normed, y: logits }),
    ];
  }

  destroy(): void {
    for (const slot of this.slots) slot.replace(null)?.destroy();
    if (!this.#outer) return;
    destroyOuter(this.#outer.weights);
    this.#outer = null;
  }

  #prepareBatches(steps: readonly Step[], choice: GemvBatchChoice): Promise<void> {
    const known = this.#batches.get(steps);
    if (known) return known;
    const { batchRows } = this.context.scratch.layout;
    const products = steps.filter((step) => step instanceof VectorStep);
    const { gpu } = this.context;
    const prepared = Promise.all(products.map((product) => product.prepareBatches(choice, batchRows)))
      .then(() => undefined)
      .catch(async (error: unknown) => {
        if (!(await gpu.lossError())) gpu.tellError(error instanceof Error ? error : new Error(String(error)));
      });
    this.#batches.set(steps, prepared);
    return prepared;
  }

  #compileEmbedding(shape: MatrixShape) {
    const { gpu, kernels, config } = this.context;
    return Promise.all(
      splitRows(shape, gpu.maxBindingBytes).map((part) =>
        kernels.compile(embedding, { format: shape.format, columns: config.hiddenSize, ...part }),
      ),
    );
  }

  async #bindEmbedding(matrix: GpuMatrix, lane: Lane): Promise<readonly Step[]> {
    const kernels = await this.#compileEmbedding(matrix);
    return kernels.map((kernel, index) => {
      const { codes, scales } = present(matrix.parts[index], "part of the embedding");
      return kernel.bind({ state: lane.tensor("state"), codes, scales, y: lane.tensor("x") });
    });
  }

  async #bindHead(weights: OuterWeights, rows: RowSet): Promise<HeadProgram> {
    const { scratch, config, lane } = this.context;
    const linear = await Linear.compileRows(this.context, weights.head, headUse(this.context), headSpans(rows, weights.head));
    const state = lane.tensor("state");
    const x = lane.tensor("x");
    const y = scratch.tensor("logits");
    if (config.norm === "rms") {
      return { rows, steps: linear.bindVector(weights.head, { state, x, y, normWeight: weights.finalNorm.weight.tensor }) };
    }
    const normed = scratch.tensor("normed");
    const norm = bindNorm(await compileLastNorm(this.context), weights.finalNorm, state, x, normed);
    return { rows, steps: [norm, ...linear.bindVector(weights.head, { state, x: normed, y })] };
  }

  #ready(): Outer {
    assert(this.#outer, "the embedding and head are not loaded");
    return this.#outer;
  }
}

// One dispatch each.
const MAX_HEAD_SPANS = 4;

/** The rows that the head computes if these `rows` are present. */
export function headSpans(rows: RowSet, head: MatrixShape): RowSet {
  return coverRows(rows, { alignment: ROW_ALIGNMENT, maxSpans: MAX_HEAD_SPANS, end: head.rows });
}

function encode(pass: GPUComputePassEncoder, steps: readonly Step[], shape: StepShape): void {
  for (const step of steps) step.encode(pass, shape);
}
