// One decoder layer as lists of bound kernels. Compiled once for each combination of weight formats, bound once for each
// layer's weights; a step then only encodes them.
import { assert } from "../assert";
import type { GpuTensor } from "../gpu/buffer";
import type { Kernel } from "../gpu/kernel";
import { layerNorm } from "../kernels/layer-norm";
import { ATTENTION_SPLIT, pagedAttentionDecode } from "../kernels/paged-attention-decode";
import { pagedAttentionPrefill, prefillSplits } from "../kernels/paged-attention-prefill";
import { pagedAttentionReduce } from "../kernels/paged-attention-reduce";
import { rmsNorm } from "../kernels/rms-norm";
import { rotaryCache } from "../kernels/rotary-cache";
import type { StepShape } from "../kernels/step-shape";
import type { KvGroup } from "../kv/kv-cache";
import type { ModelConfig } from "../weights/model-config";
import type { MatrixShape } from "./gpu-matrix";
import { type Lane, tableStride } from "./lane";
import type { LayerWeights, NormWeights } from "./layer-weights";
import { Linear } from "./linear";
import { layerUses } from "./linear-uses";
import type { ProgramContext } from "./program-context";
import type { Step } from "./vector-step";

export interface LayerProgram {
  /** Rows of different sequences or a few rows of one, each by itself, while the context fits one split of the attention. */
  readonly decode: readonly Step[];
  /** The same for a context of any length. */
  readonly decodeSplit: readonly Step[];
  /** A chunk of rows. */
  readonly prefill: readonly Step[];
  /** The same with the attention in splits. */
  readonly prefillSplit: readonly Step[];
}

/** The dispatches of a step of this shape; none for an absent layer. */
export function stepsOf(program: LayerProgram | null | undefined, shape: StepShape, { config, scratch }: ProgramContext): readonly Step[] {
  if (!program) return [];
  const { rows, positions, apart = false } = shape;
  if (rows > scratch.layout.vectorRows && !apart) return prefillSplits(config, shape) > 1 ? program.prefillSplit : program.prefill;
  return positions > ATTENTION_SPLIT ? program.decodeSplit : program.decode;
}

/** The bindings of a program besides its weights: the place of its K/V, and its lane. */
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
  const shared = { headCount, kvHeadCount, headDim, pageSize, kvFormat, tableStride: tableStride(config, scratch.layout) };
  const window = config.slidingWindow;
  const { qkv: qkvStride, attention: yStride } = scratch.strides;
  const attends = { ...shared, window, qkvStride, yStride };
  const { contextLength, splitsPrefill } = scratch.layout;
  const isEverSplit = contextLength > ATTENTION_SPLIT;
  const rotaryOptions = { ...shared, ropeDimensions: config.rope.dimensions, qkvStride };
  const [rotary, direct, split, reduce, prefill, prefillSplit, prefillReduce] = await Promise.all([
    kernels.compile(rotaryCache, rotaryOptions),
    kernels.compile(pagedAttentionDecode, { ...attends, direct: true }),
    isEverSplit ? kernels.compile(pagedAttentionDecode, { ...attends, direct: false }) : null,
    isEverSplit ? kernels.compile(pagedAttentionReduce, { headCount, headDim, window, yStride }) : null,
    kernels.compile(pagedAttentionPrefill, attends),
    splitsPrefill ? kernels.compile(pagedAttentionPrefill, { ...attends, isSplit: true }) : null,
    splitsPrefill ? kernels.compile(pagedAttentionReduce, { headCount, headDim, window: null, yStride, isCounted: true }) : null,
  ]);
  /** Rotates queries and does not touch the cache. It is compiled on demand, because few engines need it. */
  const compileReadOnlyRotary = () => kernels.compile(rotaryCache, { ...rotaryOptions, writes: false });
  return { rotary, direct, split, reduce, prefill, prefillSplit, prefillReduce, compileReadOnlyRotary };
}

/** The model's norm kernel: x [rows, hidden] to y. */
export async function compileNorm({ kernels, config, subgroups }: ProgramContext) {
  const options = { columns: config.hiddenSize, epsilon: config.normEpsilon, subgroups };
  return config.norm === "rms" ? kernels.compile(rmsNorm, options) : kernels.compile(layerNorm, options);
}

/** LayerNorm of a step's last rows, for a head whose product does not normalise x itself. */
export async function compileLastNorm({ kernels, config, subgroups }: ProgramContext): Promise<NormKernel> {
  return kernels.compile(layerNorm, { columns: config.hiddenSize, epsilon: config.normEpsilon, subgroups, lastRows: true });
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

  /** Binds a layer's weights. Decode and prefill encode these programs from now on. */
  program(layer: number, { parts }: LayerWeights, place: ProgramPlace): LayerProgram {
    return { ...this.#decode(layer, parts, place), ...this.#prefill(layer, parts, place, this.#attention.rotary) };
  }

  /** A chunk of rows through the layer over positions whose K/V is cached. It reads that K/V and does not write it. */
  async reread(layer: number, { parts }: LayerWeights, place: ProgramPlace): Promise<readonly Step[]> {
    return this.#prefill(layer, parts, place, await this.#attention.compileReadOnlyRotary()).prefill;
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

  #decode(layer: number, parts: LayerWeights["parts"], place: ProgramPlace): Pick<LayerProgram, "decode" | "decodeSplit"> {
    const { scratch, config } = this.#context;
    const { paged, attended, mlp, normed } = this.#tensors(layer, place);
    const { state } = paged;
    const x = place.lane.tensor("x");
    const partial = scratch.tensor("partial");
    const direct = [this.#attention.direct.bind({ ...paged, y: attended })];
    const { split, reduce } = this.#attention;
    const inSplits = split && reduce ? [split.bind({ ...paged, partial }), reduce.bind({ state, partial, y: attended })] : direct;
    const fused = config.norm === "rms";
    const mlpNorm = parts.mlpNorm ?? parts.attentionNorm;
    const mlpInput = parts.mlpNorm && config.parallelBlock ? scratch.tensor("mlpNormed") : normed;
    const qkvInput = fused ? { x, normWeight: parts.attentionNorm.weight.tensor } : { x: normed };
    const upInput = fused ? { x, normWeight: mlpNorm.weight.tensor } : { x: mlpInput };
    const steps = {
      attentionNorm: fused ? [] : [bindNorm(this.#norm, parts.attentionNorm, state, x, normed)],
      qkv: this.#linear.qkv.bindVector(parts.qkv, { state, ...qkvInput, y: paged.qkv, ...bias(parts) }),
      rotary: [this.#attention.rotary.bind({ ...paged, rope: scratch.tensor("rope") })],
      attentionOutput: this.#linear.attentionOutput.bindVector(parts.attentionOutput, { state, x: attended, y: x }),
      mlpNorm: fused || !parts.mlpNorm ? [] : [bindNorm(this.#norm, parts.mlpNorm, state, x, mlpInput)],
      up: this.#linear.up.bindVector(parts.up, { state, ...upInput, y: mlp }),
      down: this.#linear.down.bindVector(parts.down, { state, x: mlp, y: x }),
    };
    return {
      decode: inOrder({ ...steps, attention: direct }, config),
      decodeSplit: inOrder({ ...steps, attention: inSplits }, config),
    };
  }

  #prefill(
    layer: number,
    parts: LayerWeights["parts"],
    place: ProgramPlace,
    rotaryKernel: LayerAttention["rotary"],
  ): Pick<LayerProgram, "prefill" | "prefillSplit"> {
    const { scratch, config } = this.#context;
    const { paged, attended, mlp, normed, mlpNormed } = this.#tensors(layer, place);
    const { state } = paged;
    const x = place.lane.tensor("x");
    const mlpInput = parts.mlpNorm && config.parallelBlock ? mlpNormed : normed;
    const linear = this.#linear;
    /** Makes the bytes of `input` once for all products that need them. */
    const inBytes = (input: GpuTensor, ...products: readonly Linear[]) =>
      products.flatMap((product) => product.bindQuantise({ state, x: input }) ?? []).slice(0, 1);
    assert(config.parallelBlock || parts.mlpNorm, "a sequential block without a norm before its MLP");
    const whole = [this.#attention.prefill.bind({ ...paged, y: attended })];
    const { prefillSplit, prefillReduce } = this.#attention;
    const partial = scratch.tensor("partial");
    const inSplits =
      prefillSplit && prefillReduce
        ? [prefillSplit.bind({ ...paged, partial }), prefillReduce.bind({ state, partial, y: attended })]
        : whole;
    const steps = {
      attentionNorm: [bindNorm(this.#norm, parts.attentionNorm, state, x, normed)],
      qkv: [
        ...inBytes(normed, linear.qkv, ...(parts.mlpNorm ? [] : [linear.up])),
        ...linear.qkv.bindTile(parts.qkv, { state, x: normed, y: paged.qkv, ...bias(parts) }),
      ],
      rotary: [rotaryKernel.bind({ ...paged, rope: scratch.tensor("rope") })],
      attentionOutput: [
        ...inBytes(attended, linear.attentionOutput),
        ...linear.attentionOutput.bindTile(parts.attentionOutput, { state, x: attended, y: x }),
      ],
      mlpNorm: parts.mlpNorm ? [bindNorm(this.#norm, parts.mlpNorm, state, x, mlpInput)] : [],
      up: [...(parts.mlpNorm ? inBytes(mlpInput, linear.up) : []), ...linear.up.bindTile(parts.up, { state, x: mlpInput, y: mlp })],
      down: [...inBytes(mlp, linear.down), ...linear.down.bindTile(parts.down, { state, x: mlp, y: x })],
    };
    return {
      prefill: inOrder({ ...steps, attention: whole }, config),
      prefillSplit: inOrder({ ...steps, attention: inSplits }, config),
    };
  }
}

/** The dispatches of each place in a layer: one kernel, several, or none. */
type LayerSteps = Readonly<
  Record<"attentionNorm" | "qkv" | "rotary" | "attention" | "attentionOutput" | "mlpNorm" | "up" | "down", readonly Step[]>
>;

/** A layer from top to bottom. `attentionOutput` and `down` add to the residual. */
function inOrder(steps: LayerSteps, { parallelBlock }: Pick<ModelConfig, "parallelBlock">): readonly Step[] {
  const mlp = [...steps.mlpNorm, ...steps.up];
  return [
    ...steps.attentionNorm,
    ...steps.qkv,
    ...(parallelBlock ? mlp : []), // the MLP of a parallel block reads the residual before attention adds to it
    ...steps.rotary,
    ...steps.attention,
    ...steps.attentionOutput,
    ...(parallelBlock ? [] : mlp),
    ...steps.down,
  ];
}

function bias({ qkvBias }: LayerWeights["parts"]): { bias?: GpuTensor } {
  return qkvBias ? { bias: qkvBias.tensor } : {};
}
