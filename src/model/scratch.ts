// The buffers that activations live in while a step runs: made once, for the largest chunk, and shared by all layers.

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
  /** Positions that a sequence can have. */
  readonly contextLength: number;
  readonly pageSize: number;
  /**
   * Chunks of up to so many rows go through the kernels of decode, a row each: tiles would leave most of the device idle, and most of what they
   * compute unused. At least 1.
   */
  readonly vectorRows: number;
  /** Prefill's attention shares a long context out among workgroups where rows are few: for devices that compute many at once. */
  readonly splitsPrefill: boolean;
  readonly dp4a: boolean;
  /** Sequences that decode in one step, at most. */
  readonly batchRows: number;
}

/** The most sequences that decode in one step unless told otherwise. */
export const MAX_BATCH = 8;

/** Rows that a step may have, of either kind. */
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
 * `normed`, `qkv`, `attended` and `mlp` are what their names say, [rows, …]; `logits` are [batchRows, vocab]. `xCodes` and `xScales` are one of them in
 * bytes, as quantise-rows leaves it; there are none without `dp4a`. None outlives the layer that it is for.
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
