// Writes a Llama model that lies in a GGUF as Hugging Face's hub has such models: config.json, an index, and safetensors in shards.
// The names and the order of rows are written down here anew, so that a mistake in the engine's own does not undo itself.

import { type WritableTensor, writeSafetensors } from "../../src/formats/safetensors-writer";
import type { TensorDirectory, TensorInfo } from "../../src/formats/tensor-directory";
import { TENSOR_BLOCKS } from "../../src/formats/tensor-directory";
import { tensorByteLength } from "../../src/formats/tensor-extent";
import type { ModelConfig } from "../../src/index";
import { DECODERS } from "../../src/weights/dequantise";
import { halfBits } from "./half";
import type { FileContents } from "./memory-files";

export interface HubCheckpointOptions {
  /** What values are rounded to. */
  readonly type: "F32" | "F16" | "BF16";
  readonly shardCount: number;
}

/** `directory` is a GGUF's, of architecture llama. */
export async function hubCheckpoint(
  { config, directory }: { readonly config: ModelConfig; readonly directory: TensorDirectory },
  { type, shardCount }: HubCheckpointOptions,
): Promise<FileContents> {
  const shards: WritableTensor[][] = Array.from({ length: shardCount }, () => []);
  const weightMap: Record<string, string> = {};
  const fileName = (shard: number) => `model-${fiveDigits(shard + 1)}-of-${fiveDigits(shardCount)}.safetensors`;
  let totalBytes = 0;
  for (const [index, tensor] of [...directory.tensors.values()].entries()) {
    const shard = index % shardCount;
    const written = await hubTensor(tensor, config, type);
    shards[shard]?.push(written);
    weightMap[written.name] = fileName(shard);
    totalBytes += written.values.byteLength;
  }
  return {
    "config.json": JSON.stringify(hubConfig(config)),
    "model.safetensors.index.json": JSON.stringify({ metadata: { total_size: totalBytes }, weight_map: weightMap }),
    ...Object.fromEntries(shards.map((tensors, shard) => [fileName(shard), writeSafetensors(tensors, { format: "pt" })])),
  };
}

function hubConfig(config: ModelConfig): object {
  return {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    hidden_act: "silu",
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    num_hidden_layers: config.layerCount,
    num_attention_heads: config.headCount,
    num_key_value_heads: config.kvHeadCount,
    head_dim: config.headDim,
    vocab_size: config.vocabSize,
    max_position_embeddings: config.maxPositions,
    rms_norm_eps: config.normEpsilon,
    rope_theta: config.rope.theta,
    tie_word_embeddings: config.tiedEmbedding,
  };
}

const GLOBAL_NAMES: Readonly<Record<string, string>> = {
  "token_embd.weight": "model.embed_tokens.weight",
  "output_norm.weight": "model.norm.weight",
  "output.weight": "lm_head.weight",
};

const LAYER_NAMES: Readonly<Record<string, string>> = {
  attn_norm: "input_layernorm",
  attn_q: "self_attn.q_proj",
  attn_k: "self_attn.k_proj",
  attn_v: "self_attn.v_proj",
  attn_output: "self_attn.o_proj",
  ffn_norm: "post_attention_layernorm",
  ffn_gate: "mlp.gate_proj",
  ffn_up: "mlp.up_proj",
  ffn_down: "mlp.down_proj",
};

async function hubTensor(tensor: TensorInfo, { headDim }: ModelConfig, type: HubCheckpointOptions["type"]): Promise<WritableTensor> {
  const [, layer, kind = ""] = /^blk\.(\d+)\.(\w+)\.weight$/.exec(tensor.name) ?? [];
  const layerName = LAYER_NAMES[kind];
  const name = layerName ? `model.layers.${layer}.${layerName}.weight` : GLOBAL_NAMES[tensor.name];
  if (name === undefined) throw new Error(`the hub has no name for ${tensor.name}`);
  const stored = await readValues(tensor);
  const values = kind === "attn_q" || kind === "attn_k" ? withHalvesApart(stored, tensor.shape[1] ?? 1, headDim) : stored;
  return { name, type, shape: tensor.shape, values: rounded(values, type) };
}

function rounded(values: Float32Array, type: HubCheckpointOptions["type"]): ArrayBufferView {
  if (type === "F32") return values;
  return type === "F16" ? Uint16Array.from(values, halfBits) : toBfloats(values);
}

async function readValues(tensor: TensorInfo): Promise<Float32Array> {
  const bytes = await tensor.source.read(tensor.range);
  const elements = tensor.shape.reduce((product, size) => product * size, 1);
  if (
    bytes.length !== tensorByteLength({ type: tensor.type, block: TENSOR_BLOCKS[tensor.type], shape: tensor.shape, where: tensor.name })
  ) {
    throw new Error(`${tensor.name} has ${bytes.length} bytes`);
  }
  const values = new Float32Array(elements);
  DECODERS[tensor.type](new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0, values, elements);
  return values;
}

/** A GGUF has the two rows of a rotary pair side by side; the hub has the first ones of a head's pairs, then the second ones. */
function withHalvesApart(values: Float32Array, columns: number, headDim: number): Float32Array {
  const apart = new Float32Array(values.length);
  for (let row = 0; row < values.length / columns; row++) {
    const inHead = row % headDim;
    const to = row - inHead + (inHead % 2) * (headDim / 2) + Math.floor(inHead / 2);
    apart.set(values.subarray(row * columns, (row + 1) * columns), to * columns);
  }
  return apart;
}

/** To the nearest, ties to even. */
function toBfloats(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  return Uint16Array.from(bits, (each) => (each + 0x7fff + ((each >>> 16) & 1)) >>> 16);
}

function fiveDigits(value: number): string {
  return String(value).padStart(5, "0");
}
