// Reads the model's configuration from GGUF metadata, and from tensors where the metadata omits it.
import { LlmError } from "../errors";
import { requireTensor, type TensorDirectory } from "../formats/tensor-directory";
import { checkedConfig } from "./config-check";
import { ConfigFields } from "./config-fields";
import { FAMILIES } from "./families";
import type { Family } from "./families/family";
import type { ModelConfig, RopeConfig } from "./model-config";
import { ROPE_DIVISORS } from "./model-weights";
import { readVector } from "./read-weights";
import { checkDivisors } from "./rotary-config";
import { rowsInOrder } from "./row-runs";

/** Keys that change what a layer computes in ways that we do not support; 0 turns them off. */
const REFUSED_KEYS = [
  "expert_count",
  "attention.clamp_kqv",
  "attention.max_alibi_bias",
  "attention.scale",
  "attn_logit_softcapping",
  "final_logit_softcapping",
  "embedding_scale",
  "residual_scale",
  "logit_scale",
];

/**
 * Everything is in the directory except the rotary divisors, if any (a few hundred bytes), which are read.
 *
 * @throws LlmError "bad-config" when a key is missing, wrong, or at odds with another; "unsupported" for an architecture or a variant of
 * one that we cannot run; "bad-weights" when a tensor that decides something is wrong; what the source throws
 */
export async function configFromGguf(directory: TensorDirectory, signal?: AbortSignal): Promise<ModelConfig> {
  const { metadata, name } = directory;
  const general = new ConfigFields(metadata, name, "general.");
  const architecture = general.text("architecture");
  const family = FAMILIES.get(architecture);
  if (family?.traitsFromGguf === undefined) {
    const supported = [...FAMILIES.values()].filter((known) => known.traitsFromGguf).map((known) => known.name);
    throw general.unsupported("architecture", `supported: ${supported.join(", ")}`);
  }
  const fields = new ConfigFields(withUniformNumbers(metadata), name, `${architecture}.`);
  for (const key of REFUSED_KEYS) {
    if (fields.has(key) && fields.value(key) !== 0) throw fields.unsupported(key, "this is not supported");
  }
  const hiddenSize = fields.count("embedding_length");
  const headCount = fields.count("attention.head_count");
  const headDim = fields.count("attention.key_length", hiddenSize / headCount);
  if (fields.count("attention.value_length", headDim) !== headDim) {
    throw fields.unsupported("attention.value_length", `it must equal the keys' ${headDim}`);
  }
  const config: ModelConfig = {
    ...family.traitsFromGguf(fields, directory),
    family: family.name,
    layerCount: fields.count("block_count"),
    hiddenSize,
    headCount,
    kvHeadCount: fields.count("attention.head_count_kv", headCount),
    headDim,
    intermediateSize: fields.count("feed_forward_length"),
    vocabSize: vocabSizeOf(directory, family),
    maxPositions: fields.count("context_length"),
    rope: ropeOf(fields, headDim),
    tiedEmbedding: !hasTensor(directory, `${family.globalNames("gguf").head}.weight`),
  };
  const checked = checkedConfig(config, name);
  if (!hasTensor(directory, ROPE_DIVISORS)) return checked;
  return { ...checked, rope: await withDivisors(checked.rope, directory, signal) };
}

/** Replaces an array of one equal value for each layer by that value. */
function withUniformNumbers(metadata: TensorDirectory["metadata"]): Map<string, unknown> {
  return new Map(
    [...metadata].map(([key, value]) => {
      const isUniform = value instanceof Float64Array && value.length > 0 && value.every((number) => number === value[0]);
      return [key, isUniform ? value[0] : value];
    }),
  );
}

/** Taken from the table's rows: the key is often missing, and models pad their tables. */
function vocabSizeOf(directory: TensorDirectory, family: Family): number {
  const embedding = requireTensor(directory, `${family.globalNames("gguf").embedding}.weight`);
  const [vocabSize] = embedding.shape;
  if (embedding.shape.length !== 2 || vocabSize === undefined || vocabSize < 1) {
    throw new LlmError("bad-weights", `"${embedding.name}" in ${directory.name}: shape [${embedding.shape.join(", ")}], expected a table`);
  }
  return vocabSize;
}

function ropeOf(fields: ConfigFields, headDim: number): RopeConfig {
  const only = "the only rotary scaling supported is llama3's, as a tensor of divisors";
  for (const key of ["rope.scaling.factor", "rope.scale_linear"]) {
    if (fields.positive(key, 1) !== 1) throw fields.unsupported(key, only);
  }
  // "linear" with a factor of 1 is no scaling; the other types need more than a factor.
  if (!["none", "linear"].includes(fields.text("rope.scaling.type", "none"))) throw fields.unsupported("rope.scaling.type", only);
  if (fields.count("rope.dimension_count", headDim) !== headDim) {
    throw fields.unsupported("rope.dimension_count", `this family rotates whole heads of ${headDim} dimensions`);
  }
  return { theta: fields.positive("rope.freq_base", 10000), dimensions: headDim };
}

async function withDivisors(rope: RopeConfig, directory: TensorDirectory, signal?: AbortSignal): Promise<RopeConfig> {
  const length = rope.dimensions / 2;
  const tensor = requireTensor(directory, ROPE_DIVISORS, [length]);
  const frequencyDivisors = Array.from(await readVector({ length, parts: [{ tensor, runs: rowsInOrder(length) }] }, signal));
  checkDivisors(frequencyDivisors, `"${ROPE_DIVISORS}" in ${tensor.source.name}`);
  return { ...rope, frequencyDivisors };
}

function hasTensor(directory: TensorDirectory, name: string): boolean {
  return directory.tensors.has(name) || directory.unsupported.has(name);
}
