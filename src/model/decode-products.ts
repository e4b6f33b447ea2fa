// The products of a decode step, grouped by shape and format, each with all matrices of the model that use it. GEMV tuning measures these.
import type { GpuTensor } from "../gpu/buffer";
import type { KernelCache } from "../gpu/kernel";
import { type GemvProduct, productKey } from "../kernels/gemv-candidates";
import type { GemvTuning } from "../kernels/matmul-vector";
import type { RowSet } from "../weights/row-set";
import type { GpuMatrix } from "./gpu-matrix";
import type { LayerParts, NormWeights } from "./layer-weights";
import { Linear, type LinearTensors, type LinearUse, vectorProducts } from "./linear";
import { headUse, layerUses } from "./linear-uses";
import { headSpans, type Model } from "./model";
import type { ProgramContext } from "./program-context";
import type { Step } from "./vector-step";

export interface DecodeProduct {
  readonly product: GemvProduct;
  /** The input vector, f32 [columns]. */
  readonly x: GpuTensor;
  /** The outputs of the first matrix. */
  readonly y: GpuTensor;
  /**
   * One dispatch for each matrix, in the order of layers. They read the buffers that a decode step would read and write to scratch whose contents no run
   * needs when it begins.
   *
   * @throws LlmError "gpu-error" if the kernel does not compile with these GEMV parameters.
   */
  bind(kernels: KernelCache, tuning: GemvTuning): Promise<readonly Step[]>;
}

interface Site {
  readonly matrix: GpuMatrix;
  readonly use: LinearUse;
  readonly rows: RowSet;
  readonly tensors: LinearTensors;
}

/** The products of the loaded layers and of the head's present rows. */
export function decodeProducts(model: Model): DecodeProduct[] {
  const { context } = model;
  const groups = new Map<string, { readonly product: GemvProduct; readonly sites: Site[] }>();
  const layers = model.slots.flatMap(({ weights }) => (weights ? layerSites(context, weights.parts) : []));
  for (const site of [...layers, headSite(model)]) {
    for (const { product, rows } of vectorProducts(context, site.matrix, site.use, site.rows)) {
      const key = productKey(product);
      const group = groups.get(key) ?? { product, sites: [] };
      groups.set(key, group);
      group.sites.push({ ...site, rows });
    }
  }
  return [...groups.values()].flatMap(({ product, sites }) => {
    const [first] = sites;
    return first ? [{ product, ...ends(product, first), bind: bindSites.bind(null, context, sites) }] : [];
  });
}

async function bindSites(context: ProgramContext, sites: readonly Site[], kernels: KernelCache, tuning: GemvTuning) {
  const cut: ProgramContext = { ...context, kernels, gemvTuning: () => tuning };
  const bound = await Promise.all(
    sites.map(async ({ matrix, use, rows, tensors }) => (await Linear.compileRows(cut, matrix, use, rows)).bindVector(matrix, tensors)),
  );
  return bound.flat();
}

function ends({ rows, columns, epilogue }: GemvProduct, { tensors: { x, y }, rows: [span] }: Site): Pick<DecodeProduct, "x" | "y"> {
  const outputs = epilogue === "silu-gated" ? 0.5 : 1;
  const yOffset = y.offset + (span?.start ?? 0) * outputs * 4;
  return { x: { ...x, bytes: columns * 4 }, y: { ...y, offset: yOffset, bytes: rows * outputs * 4 } };
}

function layerSites(context: ProgramContext, parts: LayerParts): Site[] {
  const { scratch, lane } = context;
  const uses = layerUses(context);
  const state = lane.tensor("state");
  const mlp = scratch.tensor("mlp");
  const sum = scratch.tensor("normed"); // instead of the residual: sums grow with each dispatch, and nobody reads them here
  const site = (matrix: GpuMatrix, use: LinearUse, tensors: Omit<LinearTensors, "state">): Site => {
    return { matrix, use, rows: [{ start: 0, end: matrix.rows }], tensors: { state, ...tensors } };
  };
  const bias = parts.qkvBias ? { bias: parts.qkvBias.tensor } : {};
  return [
    site(parts.qkv, uses.qkv, { ...normedInput(context, parts.attentionNorm), y: scratch.tensor("qkv"), ...bias }),
    site(parts.attentionOutput, uses.attentionOutput, { x: scratch.tensor("attended"), y: sum }),
    site(parts.up, uses.up, { ...normedInput(context, parts.mlpNorm ?? parts.attentionNorm), y: mlp }),
    site(parts.down, uses.down, { x: mlp, y: sum }),
  ];
}

function headSite({ context, weights, headRows }: Model): Site {
  const { scratch, lane } = context;
  const tensors = { state: lane.tensor("state"), ...normedInput(context, weights.finalNorm), y: scratch.tensor("logits") };
  return { matrix: weights.head, use: headUse(context), rows: headSpans(headRows, weights.head), tensors };
}

function normedInput({ config, scratch, lane }: ProgramContext, norm: NormWeights): Pick<LinearTensors, "x" | "normWeight"> {
  return config.norm === "rms" ? { x: lane.tensor("x"), normWeight: norm.weight.tensor } : { x: scratch.tensor("normed") };
}
