// The forward pass: embedding, the layers present in their slots, final norm and head. It encodes; the engine submits.
import { assert, present } from "../assert";
import type { GpuTensor } from "../gpu/buffer";
import type { BoundKernel } from "../gpu/kernel";
import { embedding } from "../kernels/embedding";
import { ATTENTION_SPLIT } from "../kernels/paged-attention-decode";
import type { StepShape } from "../kernels/step-shape";
import type { GpuMatrix, MatrixShape } from "./gpu-matrix";
import { splitRows } from "./gpu-matrix";
import { bindNorm, compileNorm, LayerKernels, type LayerShapes } from "./layer-program";
import { LayerSlot } from "./layer-slot";
import type { LayerWeights, NormWeights } from "./layer-weights";
import { Linear } from "./linear";
import type { ProgramContext } from "./program-context";

type Step = BoundKernel<StepShape>;

/** What surrounds the layers. Tied models have one matrix as embedding and head. */
export interface OuterWeights {
  readonly embedding: GpuMatrix;
  readonly finalNorm: NormWeights;
  readonly head: GpuMatrix;
}

export interface OuterShapes {
  readonly embedding: MatrixShape;
  readonly head: MatrixShape;
}

interface OuterProgram {
  readonly weights: OuterWeights;
  readonly head: Linear;
  readonly norm: Awaited<ReturnType<typeof compileNorm>>;
  readonly embed: readonly Step[];
  /** Final norm and head of the last row of `x`, to `logits`. */
  readonly headRow: readonly Step[];
}

export class Model {
  readonly context: ProgramContext;
  readonly slots: readonly LayerSlot[];
  #outer: OuterProgram | null = null;

  constructor(context: ProgramContext) {
    this.context = context;
    this.slots = Array.from({ length: context.config.layerCount }, (_, layer) => new LayerSlot(layer));
  }

  /** Compiles and binds a layer's kernels, so that `LayerSlot.replace` has nothing left to do. */
  async prepareLayer(
    layer: number,
    weights: LayerWeights,
  ): Promise<{ readonly weights: LayerWeights; readonly program: ReturnType<LayerKernels["program"]> }> {
    const { parts } = weights;
    const kernels = await LayerKernels.compile(this.context, parts);
    return { weights, program: kernels.program(layer, weights) };
  }

  /** Starts compiling what weights of these shapes will need, while their bytes are still on the way. */
  async warmUp(layers: Iterable<LayerShapes>, outer: OuterShapes): Promise<void> {
    await Promise.all([...[...layers].map((shapes) => LayerKernels.compile(this.context, shapes)), this.#compileOuter(outer)]);
  }

  async setOuter(weights: OuterWeights): Promise<void> {
    const { scratch, config } = this.context;
    const { embed, head, norm } = await this.#compileOuter(weights);
    const state = scratch.tensor("state");
    const ids = scratch.tensor("ids");
    const x = scratch.tensor("x");
    const boundEmbed = embed.map((kernel, index) => {
      const { codes, scales } = present(weights.embedding.parts[index], "part of the embedding");
      return kernel.bind({ state, ids, codes, scales, y: x });
    });
    const logits = scratch.tensor("logits");
    const normed = scratch.tensor("normed");
    const headRow =
      config.norm === "rms"
        ? head.bindVector(weights.head, { x, y: logits, normWeight: weights.finalNorm.weight.tensor })
        : [bindNorm(norm, weights.finalNorm, state, x, normed), ...head.bindVector(weights.head, { x: normed, y: logits })];
    this.#outer = { weights, head, norm, embed: boundEmbed, headRow };
  }

  /** One row through embedding and layers: `ids[0]` at `state.position`; its residual lands in `x`. */
  encodeDecode(pass: GPUComputePassEncoder, positions: number): void {
    const shape = { rows: 1, positions };
    const split = positions > ATTENTION_SPLIT;
    encode(pass, this.#ready().embed, shape);
    for (const { program } of this.slots) {
      if (program) encode(pass, split ? program.decodeSplit : program.decode, shape);
    }
  }

  encodeEmbedding(pass: GPUComputePassEncoder, shape: StepShape): void {
    encode(pass, this.#ready().embed, shape);
  }

  /** Layers [first, end) over a chunk of rows; the residual is in `x` before and after. */
  encodePrefill(pass: GPUComputePassEncoder, shape: StepShape, first: number, end: number): void {
    for (const { program } of this.slots.slice(first, end)) if (program) encode(pass, program.prefill, shape);
  }

  /** Final norm and head of the last of the step's rows, to `logits` [vocab]. */
  encodeHead(pass: GPUComputePassEncoder, rows: number): void {
    encode(pass, this.#ready().headRow, { rows, positions: rows });
  }

  /** Binds final norm and head over a chunk's rows: `x` to `normed` to `logits` [rows, vocab]. For evaluation, not for chat. */
  bindHeadRows(logits: GpuTensor): readonly Step[] {
    const { scratch } = this.context;
    const { norm, head, weights } = this.#ready();
    const normed = scratch.tensor("normed");
    return [
      bindNorm(norm, weights.finalNorm, scratch.tensor("state"), scratch.tensor("x"), normed),
      ...head.bindTile(weights.head, { x: normed, y: logits }),
    ];
  }

  destroy(): void {
    for (const slot of this.slots) slot.replace(null)?.destroy();
    if (!this.#outer) return;
    const { embedding: matrix, head, finalNorm } = this.#outer.weights;
    matrix.destroy();
    if (head !== matrix) head.destroy();
    finalNorm.weight.destroy();
    finalNorm.bias?.destroy();
    this.#outer = null;
  }

  async #compileOuter(shapes: OuterShapes) {
    const { gpu, kernels, config } = this.context;
    const [embed, head, norm] = await Promise.all([
      Promise.all(
        splitRows(shapes.embedding, gpu.maxBindingBytes).map((part) =>
          kernels.compile(embedding, { format: shapes.embedding.format, columns: config.hiddenSize, ...part }),
        ),
      ),
      Linear.compile(this.context, shapes.head, {
        epilogue: "store",
        bias: false,
        yStride: config.vocabSize,
        ...(config.norm === "rms" ? { normEpsilon: config.normEpsilon } : {}),
      }),
      compileNorm(this.context),
    ]);
    return { embed, head, norm };
  }

  #ready(): OuterProgram {
    assert(this.#outer, "the embedding and head are not loaded");
    return this.#outer;
  }
}

function encode(pass: GPUComputePassEncoder, steps: readonly Step[], shape: StepShape): void {
  for (const step of steps) step.encode(pass, shape);
}
