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
import type { MatrixShape } from "./gpu-matrix";
import type { LayerWeights, NormWeights } from "./layer-weights";
import { Linear } from "./linear";
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

export interface LayerShapes {
  readonly qkv: MatrixShape;
  readonly attentionOutput: MatrixShape;
  readonly up: MatrixShape;
  readonly down: MatrixShape;
}

/** How each of a layer's products ends, and where its rows go. */
function linearUses({ config, scratch: { strides } }: ProgramContext) {
  const fusedNorm = config.norm === "rms" ? { normEpsilon: config.normEpsilon } : {};
  const upEpilogue = ({ "silu-gated": "silu-gated", gelu: "gelu", "gelu-tanh": "gelu-tanh" } as const)[config.activation];
  return {
    qkv: { epilogue: "store", bias: config.qkvBias, yStride: strides.qkv, ...fusedNorm },
    attentionOutput: { epilogue: "add", bias: false, yStride: strides.hidden },
    up: { epilogue: upEpilogue, bias: false, yStride: strides.mlp, ...fusedNorm },
    down: { epilogue: "add", bias: false, yStride: strides.hidden },
  } as const;
}

async function compileAttention({ kernels, config, cache, scratch }: ProgramContext) {
  const { headCount, kvHeadCount, headDim } = config;
  const { pageSize, format: kvFormat } = cache.layout;
  const shared = { headCount, kvHeadCount, headDim, pageSize, kvFormat };
  const window = config.slidingWindow;
  const { qkv: qkvStride, attention: yStride } = scratch.strides;
  const [rotary, direct, split, reduce, prefill] = await Promise.all([
    kernels.compile(rotaryCache, { ...shared, ropeDimensions: config.rope.dimensions, qkvStride }),
    kernels.compile(pagedAttentionDecode, { ...shared, window, direct: true }),
    kernels.compile(pagedAttentionDecode, { ...shared, window, direct: false }),
    kernels.compile(pagedAttentionReduce, { headCount, headDim, window }),
    kernels.compile(pagedAttentionPrefill, { ...shared, window, qkvStride, yStride }),
  ]);
  return { rotary, direct, split, reduce, prefill };
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
    const uses = linearUses(context);
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
  program(layer: number, { parts }: LayerWeights): LayerProgram {
    const prefill = this.#prefill(layer, parts);
    return { decode: this.#decode(layer, parts, true), decodeSplit: this.#decode(layer, parts, false), prefill };
  }

  #tensors(layer: number) {
    const { scratch, cache } = this.#context;
    const paged = {
      state: scratch.tensor("state"),
      qkv: scratch.tensor("qkv"),
      table: scratch.table(layer),
      keys: cache.keys(layer),
      values: cache.values(layer),
    };
    return {
      paged,
      normed: scratch.tensor("normed"),
      mlpNormed: scratch.tensor("mlpNormed"),
      attended: scratch.tensor("attended"),
      mlp: scratch.tensor("mlp"),
    };
  }

  #decode(layer: number, parts: LayerWeights["parts"], direct: boolean): Step[] {
    const { scratch, config } = this.#context;
    const { paged, attended, mlp, normed } = this.#tensors(layer);
    const x = scratch.tensor("x");
    const partial = scratch.tensor("partial");
    const attention = direct
      ? [this.#attention.direct.bind({ ...paged, y: attended })]
      : [this.#attention.split.bind({ ...paged, partial }), this.#attention.reduce.bind({ state: paged.state, partial, y: attended })];
    const fused = config.norm === "rms";
    const mlpNorm = parts.mlpNorm ?? parts.attentionNorm;
    const mlpInput = parts.mlpNorm && config.parallelBlock ? scratch.tensor("mlpNormed") : normed;
    const qkvInput = fused ? { x, normWeight: parts.attentionNorm.weight.tensor } : { x: normed };
    const upInput = fused ? { x, normWeight: mlpNorm.weight.tensor } : { x: mlpInput };
    const norms = fused ? [] : [bindNorm(this.#norm, parts.attentionNorm, paged.state, x, normed)];
    const mlpNorms = fused || !parts.mlpNorm ? [] : [bindNorm(this.#norm, parts.mlpNorm, paged.state, x, mlpInput)];
    const qkv = this.#linear.qkv.bindVector(parts.qkv, { ...qkvInput, y: paged.qkv, ...bias(parts) });
    const rotary = this.#attention.rotary.bind({ ...paged, rope: scratch.tensor("rope") });
    const output = this.#linear.attentionOutput.bindVector(parts.attentionOutput, { x: attended, y: x });
    const up = this.#linear.up.bindVector(parts.up, { ...upInput, y: mlp });
    const down = this.#linear.down.bindVector(parts.down, { x: mlp, y: x });
    // A parallel block's MLP reads the residual before attention adds to it.
    return config.parallelBlock
      ? [...norms, ...mlpNorms, ...qkv, ...up, rotary, ...attention, ...output, ...down]
      : [...norms, ...qkv, rotary, ...attention, ...output, ...mlpNorms, ...up, ...down];
  }

  #prefill(layer: number, parts: LayerWeights["parts"]): Step[] {
    const { scratch, config } = this.#context;
    const { paged, attended, mlp, normed, mlpNormed } = this.#tensors(layer);
    const x = scratch.tensor("x");
    const mlpInput = parts.mlpNorm && config.parallelBlock ? mlpNormed : normed;
    const norm = bindNorm(this.#norm, parts.attentionNorm, paged.state, x, normed);
    const mlpNorm = parts.mlpNorm ? [bindNorm(this.#norm, parts.mlpNorm, paged.state, x, mlpInput)] : [];
    const qkv = this.#linear.qkv.bindTile(parts.qkv, { x: normed, y: paged.qkv, ...bias(parts) });
    const rotary = this.#attention.rotary.bind({ ...paged, rope: scratch.tensor("rope") });
    const attention = this.#attention.prefill.bind({ ...paged, y: attended });
    const output = this.#linear.attentionOutput.bindTile(parts.attentionOutput, { x: attended, y: x });
    const up = this.#linear.up.bindTile(parts.up, { x: mlpInput, y: mlp });
    const down = this.#linear.down.bindTile(parts.down, { x: mlp, y: x });
    assert(config.parallelBlock || parts.mlpNorm, "a sequential block without a norm before its MLP");
    return config.parallelBlock
      ? [norm, ...mlpNorm, ...qkv, ...up, rotary, attention, ...output, ...down]
      : [norm, ...qkv, rotary, attention, ...output, ...mlpNorm, ...up, ...down];
  }
}

function bias({ qkvBias }: LayerWeights["parts"]): { bias?: GpuTensor } {
  return qkvBias ? { bias: qkvBias.tensor } : {};
}
