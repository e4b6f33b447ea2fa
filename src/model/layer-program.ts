// One decoder layer as lists of bound kernels. Compiled once for each combination of weight formats, bound once for each
// layer's weights; a step then only encodes them.
import { assert } from "../assert";
import type { GpuTensor } from "../gpu/buffer";
import type { BoundKernel, Kernel } from "../gpu/kernel";
import { layerNorm } from "../kernels/layer-norm";
import { pagedAttentionDecode } from "../kernels/paged-attention-decode";
import { pagedAttentionPrefill } from "../kernels/paged-attention-prefill";
import { pagedAttentionReduce } from "../kernels/paged-attention-reduce";
import { rmsNorm } from "../kernels/rms-norm";
import { rotaryCache } from "../kernels/rotary-cache";
import type { StepShape } from "../kernels/step-shape";
import type { KvGroup } from "../kv/kv-cache";
import type { MatrixShape } from "./gpu-matrix";
import type { Lane } from "./lane";
import type { LayerWeights, NormWeights } from "./layer-weights";
import { Linear } from "./linear";
import { layerUses } from "./linear-uses";
import type { ProgramContext } from "./program-context";

type Step = BoundKernel<StepShape>;

export interface LayerProgram {
  /** One row, while the context fits one split of the attention. */
  readonly decode: readonly Step[];
  /** One row, any context. */
  readonly decodeSplit: readonly Step[];
  /** A chunk of rows. */
  readonly prefill: readonly Step[];
}

/** What a program is bound to, beside weights: where its K/V lies, and the lane that it walks on. */
export interface ProgramPlace {
  readonly group: KvGroup;
  readonly lane: Lane;
}

export interface LayerShapes {
  readonly qkv: MatrixShape;
  readonly attentionOutput: MatrixShape;
  readonly up: MatrixShape;
  readonly down: MatrixShape;
}

async function compileAttention({ kernels, config, kvLayout, scratch }: ProgramContext) {
  const { headCount, kvHeadCount, headDim } = config;
  const { pageSize, format: kvFormat } = kvLayout;
  const shared = { headCount, kvHeadCount, headDim, pageSize, kvFormat };
  const window = config.slidingWindow;
  const { qkv: qkvStride, attention: yStride } = scratch.strides;
  const rotaryOptions = { ...shared, ropeDimensions: config.rope.dimensions, qkvStride };
  const [rotary, direct, split, reduce, prefill] = await Promise.all([
    kernels.compile(rotaryCache, rotaryOptions),
    kernels.compile(pagedAttentionDecode, { ...shared, window, direct: true }),
    kernels.compile(pagedAttentionDecode, { ...shared, window, direct: false }),
    kernels.compile(pagedAttentionReduce, { headCount, headDim, window }),
    kernels.compile(pagedAttentionPrefill, { ...shared, window, qkvStride, yStride }),
  ]);
  /** Turns queries and leaves the cache alone. Few ever need it, so it is compiled when it is asked for. */
  const compileReadOnlyRotary = () => kernels.compile(rotaryCache, { ...rotaryOptions, writes: false });
  return { rotary, direct, split, reduce, prefill, compileReadOnlyRotary };
}

/** The norm kernel of a model: x [rows, hidden] to y. */
export async function compileNorm({ kernels, config, subgroups }: ProgramContext) {
  const options = { columns: config.hiddenSize, epsilon: config.normEpsilon, subgroups };
  return config.norm === "rms" ? kernels.compile(rmsNorm, options) : kernels.compile(layerNorm, options);
}

type NormKernel = Kernel<"state" | "x" | "weight" | "bias" | "y", StepShape>;

export function bindNorm(kernel: NormKernel, norm: NormWeights, state: GpuTensor, x: GpuTensor, y: GpuTensor): Step {
  return kernel.bind({ state, x, weight: norm.weight.tensor, y, ...(norm.bias ? { bias: norm.bias.tensor } : {}) });
}

type LayerLinear = Readonly<Record<keyof LayerShapes, Linear>>;
type LayerAttention = Awaited<ReturnType<typeof compileAttention>>;

export class LayerKernels {
  readonly #context: ProgramContext;
  readonly #linear: LayerLinear;
  readonly #attention: LayerAttention;
  readonly #norm: NormKernel;

  private constructor(context: ProgramContext, linear: LayerLinear, attention: LayerAttention, norm: NormKernel) {
    this.#context = context;
    this.#linear = linear;
    this.#attention = attention;
    this.#norm = norm;
  }

  static async compile(context: ProgramContext, shapes: LayerShapes): Promise<LayerKernels> {
    const uses = layerUses(context);
    const [qkv, attentionOutput, up, down, attention, norm] = await Promise.all([
      Linear.compile(context, shapes.qkv, uses.qkv),
      Linear.compile(context, shapes.attentionOutput, uses.attentionOutput),
      Linear.compile(context, shapes.up, uses.up),
      Linear.compile(context, shapes.down, uses.down),
      compileAttention(context),
      compileNorm(context),
    ]);
    return new LayerKernels(context, { qkv, attentionOutput, up, down }, attention, norm as NormKernel);
  }

  /** Binds a layer's weights: what decode and prefill encode for it from now on. */
  program(layer: number, weights: LayerWeights, place: ProgramPlace): LayerProgram {
    const prefill = this.prefill(layer, weights, place);
    const decode = this.#decode(layer, weights.parts, place, true);
    return { decode, decodeSplit: this.#decode(layer, weights.parts, place, false), prefill };
  }

  /** A chunk of rows through the layer. */
  prefill(layer: number, { parts }: LayerWeights, place: ProgramPlace): readonly Step[] {
    return this.#prefill(layer, parts, place, this.#attention.rotary);
  }

  /** The same over positions whose K/V is there, which it reads and does not write. */
  async reread(layer: number, { parts }: LayerWeights, place: ProgramPlace): Promise<readonly Step[]> {
    return this.#prefill(layer, parts, place, await this.#attention.compileReadOnlyRotary());
  }

  #tensors(layer: number, { group, lane }: ProgramPlace) {
    const { scratch } = this.#context;
    const paged = {
      state: lane.tensor("state"),
      qkv: scratch.tensor("qkv"),
      table: lane.table(layer),
      keys: group.keys(layer),
      values: group.values(layer),
    };
    return {
      paged,
      normed: scratch.tensor("normed"),
      mlpNormed: scratch.tensor("mlpNormed"),
      attended: scratch.tensor("attended"),
      mlp: scratch.tensor("mlp"),
    };
  }

  #decode(layer: number, parts: LayerWeights["parts"], place: ProgramPlace, direct: boolean): Step[] {
    const { scratch, config } = this.#context;
    const { paged, attended, mlp, normed } = this.#tensors(layer, place);
    const { state } = paged;
    const x = place.lane.tensor("x");
    const partial = scratch.tensor("partial");
    const attention = direct
      ? [this.#attention.direct.bind({ ...paged, y: attended })]
      : [this.#attention.split.bind({ ...paged, partial }), this.#attention.reduce.bind({ state, partial, y: attended })];
    const fused = config.norm === "rms";
    const mlpNorm = parts.mlpNorm ?? parts.attentionNorm;
    const mlpInput = parts.mlpNorm && config.parallelBlock ? scratch.tensor("mlpNormed") : normed;
    const qkvInput = fused ? { x, normWeight: parts.attentionNorm.weight.tensor } : { x: normed };
    const upInput = fused ? { x, normWeight: mlpNorm.weight.tensor } : { x: mlpInput };
    const norms = fused ? [] : [bindNorm(this.#norm, parts.attentionNorm, state, x, normed)];
    const mlpNorms = fused || !parts.mlpNorm ? [] : [bindNorm(this.#norm, parts.mlpNorm, state, x, mlpInput)];
    const qkv = this.#linear.qkv.bindVector(parts.qkv, { state, ...qkvInput, y: paged.qkv, ...bias(parts) });
    const rotary = this.#attention.rotary.bind({ ...paged, rope: scratch.tensor("rope") });
    const output = this.#linear.attentionOutput.bindVector(parts.attentionOutput, { state, x: attended, y: x });
    const up = this.#linear.up.bindVector(parts.up, { state, ...upInput, y: mlp });
    const down = this.#linear.down.bindVector(parts.down, { state, x: mlp, y: x });
    // A parallel block's MLP reads the residual before attention adds to it.
    return config.parallelBlock
      ? [...norms, ...mlpNorms, ...qkv, ...up, rotary, ...attention, ...output, ...down]
      : [...norms, ...qkv, rotary, ...attention, ...output, ...mlpNorms, ...up, ...down];
  }

  #prefill(layer: number, parts: LayerWeights["parts"], place: ProgramPlace, rotaryKernel: LayerAttention["rotary"]): Step[] {
    const { scratch, config } = this.#context;
    const { paged, attended, mlp, normed, mlpNormed } = this.#tensors(layer, place);
    const { state } = paged;
    const x = place.lane.tensor("x");
    const mlpInput = parts.mlpNorm && config.parallelBlock ? mlpNormed : normed;
    const norm = bindNorm(this.#norm, parts.attentionNorm, state, x, normed);
    const mlpNorm = parts.mlpNorm ? [bindNorm(this.#norm, parts.mlpNorm, state, x, mlpInput)] : [];
    const qkv = this.#linear.qkv.bindTile(parts.qkv, { state, x: normed, y: paged.qkv, ...bias(parts) });
    const rotary = rotaryKernel.bind({ ...paged, rope: scratch.tensor("rope") });
    const attention = this.#attention.prefill.bind({ ...paged, y: attended });
    const output = this.#linear.attentionOutput.bindTile(parts.attentionOutput, { state, x: attended, y: x });
    const up = this.#linear.up.bindTile(parts.up, { state, x: mlpInput, y: mlp });
    const down = this.#linear.down.bindTile(parts.down, { state, x: mlp, y: x });
    assert(config.parallelBlock || parts.mlpNorm, "a sequential block without a norm before its MLP");
    return config.parallelBlock
      ? [norm, ...mlpNorm, ...qkv, ...up, rotary, attention, ...output, ...down]
      : [norm, ...qkv, rotary, attention, ...output, ...mlpNorm, ...up, ...down];
  }
}

function bias({ qkvBias }: LayerWeights["parts"]): { bias?: GpuTensor } {
  return qkvBias ? { bias: qkvBias.tensor } : {};
}
