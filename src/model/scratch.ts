// The buffers of activations during a step. They are allocated once for the largest chunk, and all layers share them.

import { present } from "../assert";
import type { GpuTensor, TrackedBuffer } from "../gpu/buffer";
import type { Gpu } from "../gpu/device";
import { BUFFER_USAGE } from "../gpu/webgpu-flags";
import { attentionPartialBytes } from "../kernels/paged-attention-decode";
import { prefillPartialBytes } from "../kernels/paged-attention-prefill";
import { GROUP, paddedColumns } from "../weight-format";
import type { ModelConfig } from "../weights/model-config";
import { ropeTable } from "./rope-table";

export interface ScratchLayout {
  /** Rows of the largest prefill chunk. */
  readonly chunkRows: number;
  /** The largest number of positions in a sequence. */
  readonly contextLength: number;
  readonly pageSize: number;
  /**
   * Chunks of up to this many rows go through the decode kernels, which compute each row by itself. Tiles would leave most of the device idle and waste
   * most of their work on so few rows. At least 1.
   */
  readonly vectorRows: number;
  /** For few rows, prefill's attention splits a long context among workgroups. For devices that run many workgroups at once. */
  readonly splitsPrefill: boolean;
  readonly dp4a: boolean;
  /** The largest number of sequences that decode in one step. */
  readonly batchRows: number;
}

/** The default for the largest number of sequences that decode in one step. */
export const MAX_BATCH = 8;

/** The largest number of rows in a step, be it decode or prefill. */
export function mostRows({ chunkRows, batchRows }: Pick<ScratchLayout, "chunkRows" | "batchRows">): number {
  return Math.max(chunkRows, batchRows);
}

/** Floats between the rows of each activation. */
export interface ActivationStrides {
  readonly hidden: number;
  readonly qkv: number;
  readonly attention: number;
  readonly mlp: number;
}

export function activationStrides(config: ModelConfig): ActivationStrides {
  return {
    hidden: paddedColumns(config.hiddenSize),
    qkv: paddedColumns((config.headCount + 2 * config.kvHeadCount) * config.headDim),
    attention: paddedColumns(config.headCount * config.headDim),
    mlp: paddedColumns(config.intermediateSize),
  };
}

const NAMES = ["normed", "mlpNormed", "qkv", "attended", "mlp", "xCodes", "xScales", "partial", "rope", "logits"] as const;
type ScratchName = (typeof NAMES)[number];

/**
 * The names say what `normed`, `qkv`, `attended` and `mlp` hold, [rows, …]; `logits` are [batchRows, vocab]. `xCodes` and `xScales` hold one of the
 * activations in bytes, in the layout of quantise-rows; they exist only with `dp4a`. No contents are kept from one layer to the next.
 */
export class Scratch {
  readonly layout: ScratchLayout;
  readonly strides: ActivationStrides;
  readonly #buffers = new Map<ScratchName, TrackedBuffer>();

  constructor(gpu: Gpu, config: ModelConfig, layout: ScratchLayout) {
    this.layout = layout;
    this.strides = activationStrides(config);
    const { chunkRows, contextLength, vectorRows, splitsPrefill, dp4a, batchRows } = layout;
    const rows = mostRows(layout);
    const { headCount, headDim } = config;
    const { hidden, qkv, attention, mlp } = this.strides;
    const codeBytes = dp4a ? chunkRows * Math.max(hidden, attention, mlp) : 0;
    const rope = ropeTable(config.rope, contextLength);
    const bytes: Record<ScratchName, number> = {
      normed: rows * hidden * 4,
      mlpNormed: config.separateMlpNorm ? rows * hidden * 4 : 16,
      qkv: rows * qkv * 4,
      attended: rows * attention * 4,
      mlp: rows * mlp * 4,
      xCodes: codeBytes,
      xScales: (codeBytes / GROUP) * 8,
      partial: Math.max(
        attentionPartialBytes({ headCount, headDim, rows: Math.max(Math.min(chunkRows, vectorRows), batchRows), positions: contextLength }),
        splitsPrefill ? prefillPartialBytes({ headCount, headDim }, { rows: chunkRows, positions: contextLength }) : 0,
      ),
      rope: rope.byteLength,
      logits: batchRows * config.vocabSize * 4,
    };
    const usage = BUFFER_USAGE.STORAGE | BUFFER_USAGE.COPY_SRC | BUFFER_USAGE.COPY_DST;
    for (const name of NAMES) {
      if (bytes[name] > 0) this.#buffers.set(name, gpu.createBuffer(name, bytes[name], "scratch", usage));
    }
    gpu.device.queue.writeBuffer(this.buffer("rope"), 0, rope);
  }

  tensor(name: ScratchName): GpuTensor {
    return present(this.#buffers.get(name), name).view();
  }

  buffer(name: ScratchName): GPUBuffer {
    return this.tensor(name).buffer;
  }

  destroy(): void {
    for (const buffer of this.#buffers.values()) buffer.destroy();
  }
}
