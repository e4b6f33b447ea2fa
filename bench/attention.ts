// What does attention cost by context? Times one layer of a decode step (splits and reduction together) and of a prefill chunk.
import type { TrackedBuffer } from "../src/gpu/buffer";
import { Gpu, type GpuOptions } from "../src/gpu/device";
import { KernelCache } from "../src/gpu/kernel";
import { attentionPartialBytes, pagedAttentionDecode } from "../src/kernels/paged-attention-decode";
import { pagedAttentionPrefill } from "../src/kernels/paged-attention-prefill";
import { pagedAttentionReduce } from "../src/kernels/paged-attention-reduce";
import { encodeState } from "../src/kernels/step-state";
import { seededRandom } from "../tests/support/random";
import { gpuTime } from "./gpu-time";

interface Heads {
  readonly headCount: number;
  readonly kvHeadCount: number;
  readonly headDim: number;
}

export interface AttentionOptions extends GpuOptions {
  readonly heads?: readonly Heads[];
  readonly contexts?: readonly number[];
  /** [rows, positions before them]. */
  readonly chunks?: readonly (readonly [number, number])[];
}

// SmolLM2-135M, Qwen2.5-1.5B, Llama-3.1-8B.
const HEADS: readonly Heads[] = [
  { headCount: 9, kvHeadCount: 3, headDim: 64 },
  { headCount: 12, kvHeadCount: 2, headDim: 128 },
  { headCount: 32, kvHeadCount: 8, headDim: 128 },
];
const CONTEXTS = [128, 256, 512, 1024, 2048, 4096, 8192, 16384];
const CHUNKS = [
  [256, 0],
  [256, 768],
  [512, 512],
  [1024, 0],
  [512, 3584],
] as const;
const PAGE_SIZE = 64;

export async function measureAttention(options: AttentionOptions = {}) {
  const { heads = HEADS, contexts = CONTEXTS, chunks = CHUNKS } = options;
  const gpu = await Gpu.request(options);
  const decode = [];
  const prefill = [];
  for (const shape of heads) {
    for (const context of contexts) decode.push(await decodeTime(gpu, shape, context));
    for (const [rows, before] of chunks) prefill.push(await prefillTime(gpu, shape, rows, before));
  }
  gpu.dispose();
  return { adapter: gpu.adapterName, decode, prefill };
}

function sequenceTensors(gpu: Gpu, { headCount, kvHeadCount, headDim }: Heads, positions: number, rows: number) {
  const random = seededRandom("attention");
  const pages = Math.ceil(positions / PAGE_SIZE);
  const qkvStride = (headCount + 2 * kvHeadCount) * headDim;
  const upload = (label: string, data: Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer>): TrackedBuffer => {
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST;
    const buffer = gpu.createBuffer(label, data.byteLength, "scratch", usage);
    gpu.device.queue.writeBuffer(buffer.raw, 0, data);
    return buffer;
  };
  const halves = new Uint32Array((pages * PAGE_SIZE * kvHeadCount * headDim) / 2);
  for (let i = 0; i < halves.length; i++) halves[i] = (random.integer(2 ** 32) & 0x83ff83ff) | 0x34003400; // about 1/4
  return {
    state: upload("state", encodeState(Array.from({ length: rows }, (_, row) => ({ position: positions - rows + row })))).view(),
    qkv: upload("qkv", random.normal([rows, qkvStride])).view(),
    table: upload("table", random.permutation(pages)).view(),
    keys: upload("keys", halves).view(),
    values: upload("values", halves).view(),
    y: upload("y", new Float32Array(rows * headCount * headDim)).view(),
    partial: upload("partial", new Float32Array(attentionPartialBytes({ headCount, headDim, rows: 1, positions }) / 4)).view(),
  };
}

const stridesOf = ({ headCount, kvHeadCount, headDim }: Heads) => ({
  qkvStride: (headCount + 2 * kvHeadCount) * headDim,
  yStride: headCount * headDim,
});

async function decodeTime(owner: Gpu, heads: Heads, context: number) {
  const gpu = owner.share();
  try {
    const cache = KernelCache.of(gpu);
    const direct = context <= 256;
    const tensors = sequenceTensors(gpu, heads, context, 1);
    const layout = { ...heads, ...stridesOf(heads), pageSize: PAGE_SIZE, kvFormat: "f16", window: null } as const;
    const attention = (await cache.compile(pagedAttentionDecode, { ...layout, direct })).bind(tensors);
    const reduce = direct
      ? null
      : (await cache.compile(pagedAttentionReduce, { ...heads, ...stridesOf(heads), window: null })).bind(tensors);
    const shape = { rows: 1, positions: context };
    const ms = await gpuTime(gpu, {
      encode: (pass) => {
        attention.encode(pass, shape);
        reduce?.encode(pass, shape);
      },
    });
    const bytes = 4 * context * heads.kvHeadCount * heads.headDim;
    return { ...heads, context, us: 1000 * ms, GBps: bytes / ms / 1e6 };
  } finally {
    gpu.dispose();
  }
}

async function prefillTime(owner: Gpu, heads: Heads, rows: number, before: number) {
  const gpu = owner.share();
  try {
    const { headCount, headDim } = heads;
    const layout = { ...heads, pageSize: PAGE_SIZE, kvFormat: "f16", window: null } as const;
    const kernel = await KernelCache.of(gpu).compile(pagedAttentionPrefill, { ...layout, ...stridesOf(heads) });
    const step = kernel.bind(sequenceTensors(gpu, heads, before + rows, rows));
    const ms = await gpuTime(gpu, { encode: (pass) => step.encode(pass, { rows, positions: before + rows }) });
    const pairs = rows * before + (rows * (rows + 1)) / 2;
    return { ...heads, rows, before, us: 1000 * ms, tflops: (4 * pairs * headCount * headDim) / ms / 1e9 };
  } finally {
    gpu.dispose();
  }
}
