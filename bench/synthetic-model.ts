// Models with the shapes of real ones and random weights. Speed does not depend on the values, and nothing has to be downloaded.
import { allocate } from "../src/bytes/byte-range";
import type { ByteSource } from "../src/bytes/byte-source";
import { TENSOR_BLOCKS } from "../src/formats/tensor-directory";
import type { ModelFiles } from "../src/repository/model-files";
import { type GgufTensorSpec, type GgufValue, ggufBytes } from "../tests/support/gguf-bytes";
import { seededRandom } from "../tests/support/random";

interface Shape {
  readonly architecture: "llama" | "qwen2";
  readonly layerCount: number;
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly mlp: number;
  readonly vocab: number;
  readonly embedding: StoredType;
  /** Absent if tied to the embedding. */
  readonly head?: StoredType;
  readonly matrices: StoredType;
  /** Type of V and of the MLP's down projection in every second layer. */
  readonly wider: StoredType;
}

type StoredType = "F32" | "Q4_0" | "Q8_0" | "Q4_K" | "Q6_K";
const TYPE_NUMBERS: Readonly<Record<StoredType, number>> = { F32: 0, Q4_0: 2, Q8_0: 8, Q4_K: 12, Q6_K: 14 };

const LLAMA = {
  architecture: "llama",
  headDim: 128,
  kvHeads: 8,
  vocab: 128_256,
  embedding: "Q6_K",
  matrices: "Q4_K",
  wider: "Q6_K",
} as const;
const SHAPES: Readonly<Record<string, Shape>> = {
  // The types of Qwen2.5-Coder-1.5B-Instruct's Q4_K_M file.
  "qwen2.5-1.5b": {
    ...{ architecture: "qwen2", layerCount: 28, hidden: 1536, heads: 12, kvHeads: 2, headDim: 128, mlp: 8960, vocab: 151_936 },
    ...{ embedding: "Q4_K", head: "Q6_K", matrices: "Q4_K", wider: "Q6_K" },
  },
  "llama-3.2-3b": { ...LLAMA, layerCount: 28, hidden: 3072, heads: 24, mlp: 8192 },
  "llama-3.1-8b": { ...LLAMA, layerCount: 32, hidden: 4096, heads: 32, mlp: 14_336, embedding: "Q4_K", head: "Q6_K" },
};

const PREFIX = "synthetic:";

export const SYNTHETIC_NAMES: readonly string[] = Object.keys(SHAPES).map((name) => PREFIX + name);

export function isSynthetic(name: string): boolean {
  return name.startsWith(PREFIX);
}

/** @throws Error that lists the shapes */
export function syntheticModel(name: string): ModelFiles {
  const shape = SHAPES[name.slice(PREFIX.length)];
  if (!shape) throw new Error(`no shape "${name}"; there are ${SYNTHETIC_NAMES.join(", ")}`);
  const source = new SyntheticSource(name, shape);
  return { name, weightsFile: "model.gguf", open: async (file) => (file === "model.gguf" ? source : null) };
}

interface Tensor extends GgufTensorSpec {
  readonly stored: StoredType;
  readonly bytes: number;
}

class SyntheticSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly #header: Uint8Array;
  readonly #dataStart: number;
  readonly #tensors: readonly Tensor[];

  constructor(name: string, shape: Shape) {
    this.name = name;
    this.#tensors = tensorsOf(shape);
    this.#header = ggufBytes({ metadata: metadataOf(shape), tensors: this.#tensors });
    this.#dataStart = Math.ceil(this.#header.length / 32) * 32;
    const last = this.#tensors.at(-1);
    this.size = this.#dataStart + Number(last?.offset ?? 0) + (last?.bytes ?? 0);
  }

  async read(range: { readonly start: number; readonly end: number }): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = allocate(this, range);
    bytes.set(this.#header.subarray(range.start, range.end));
    for (const { stored, offset, bytes: length } of this.#tensors) {
      const tensorStart = this.#dataStart + Number(offset);
      const start = Math.max(range.start, tensorStart);
      const end = Math.min(range.end, tensorStart + length);
      if (start >= end) continue;
      const pattern = patternOf(stored);
      for (let at = start; at < end; ) {
        const inPattern = (at - tensorStart) % pattern.length;
        const count = Math.min(end - at, pattern.length - inPattern);
        bytes.set(pattern.subarray(inPattern, inPattern + count), at - range.start);
        at += count;
      }
    }
    return bytes;
  }
}

function metadataOf(shape: Shape): readonly (readonly [string, GgufValue])[] {
  const { architecture } = shape;
  const count = (key: string, value: number) => [`${architecture}.${key}`, { type: "u32", value }] as const;
  const number = (key: string, value: number) => [`${architecture}.${key}`, { type: "f32", value }] as const;
  return [
    ["general.architecture", { type: "string", value: architecture }],
    count("block_count", shape.layerCount),
    count("context_length", 32_768),
    count("embedding_length", shape.hidden),
    count("feed_forward_length", shape.mlp),
    count("attention.head_count", shape.heads),
    count("attention.head_count_kv", shape.kvHeads),
    number("rope.freq_base", 1e6),
    number("attention.layer_norm_rms_epsilon", 1e-6),
  ];
}

function tensorsOf(shape: Shape): Tensor[] {
  const { hidden, mlp, vocab, matrices, wider } = shape;
  const queries = shape.heads * shape.headDim;
  const keys = shape.kvHeads * shape.headDim;
  const tensors: Tensor[] = [];
  let offset = 0;
  const add = (name: string, stored: StoredType, ...dimensions: number[]) => {
    const { elements, bytes: blockBytes } = TENSOR_BLOCKS[stored];
    const bytes = (dimensions.reduce((product, size) => product * size, 1) / elements) * blockBytes;
    tensors.push({ name, stored, type: TYPE_NUMBERS[stored], dimensions, offset, bytes });
    offset += Math.ceil(bytes / 32) * 32;
  };
  add("token_embd.weight", shape.embedding, hidden, vocab);
  if (shape.head) add("output.weight", shape.head, hidden, vocab);
  add("output_norm.weight", "F32", hidden);
  for (let layer = 0; layer < shape.layerCount; layer++) {
    const block = `blk.${layer}`;
    const widened = layer % 2 === 0 ? wider : matrices;
    add(`${block}.attn_norm.weight`, "F32", hidden);
    add(`${block}.attn_q.weight`, matrices, hidden, queries);
    add(`${block}.attn_k.weight`, matrices, hidden, keys);
    add(`${block}.attn_v.weight`, widened, hidden, keys);
    if (shape.architecture === "qwen2") {
      add(`${block}.attn_q.bias`, "F32", queries);
      add(`${block}.attn_k.bias`, "F32", keys);
      add(`${block}.attn_v.bias`, "F32", keys);
    }
    add(`${block}.attn_output.weight`, matrices, queries, hidden);
    add(`${block}.ffn_norm.weight`, "F32", hidden);
    add(`${block}.ffn_gate.weight`, matrices, hidden, mlp);
    add(`${block}.ffn_up.weight`, matrices, hidden, mlp);
    add(`${block}.ffn_down.weight`, widened, mlp, hidden);
  }
  return tensors;
}

const PATTERN_BLOCKS = 4096;
const SCALE = 0x1400; // 2^-10 as a half
/** Offsets of a block's f16 scales. */
const SCALE_OFFSETS: Readonly<Record<StoredType, readonly number[]>> = { F32: [], Q4_0: [0], Q8_0: [0], Q4_K: [0, 2], Q6_K: [208] };
const patterns = new Map<StoredType, Uint8Array<ArrayBuffer>>();

/** Blocks of random codes with one small scale; all ones for F32. */
function patternOf(stored: StoredType): Uint8Array<ArrayBuffer> {
  const known = patterns.get(stored);
  if (known) return known;
  const { bytes: blockBytes } = TENSOR_BLOCKS[stored];
  const random = seededRandom(stored);
  const pattern = stored === "F32" ? new Uint8Array(new Float32Array(1024).fill(1).buffer) : new Uint8Array(PATTERN_BLOCKS * blockBytes);
  if (stored !== "F32") {
    const view = new DataView(pattern.buffer);
    for (let i = 0; i < pattern.length; i++) pattern[i] = random.integer(256);
    for (let at = 0; at < pattern.length; at += blockBytes) {
      for (const offset of SCALE_OFFSETS[stored]) view.setUint16(at + offset, SCALE, true);
    }
  }
  patterns.set(stored, pattern);
  return pattern;
}
