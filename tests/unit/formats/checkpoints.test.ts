// Every checkpoint at hand is read: the six golden cases and the embedded model, which a clone has, and all that lies in ../shared.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { ByteSource } from "../../../src/bytes/byte-source";
import { readGguf } from "../../../src/formats/gguf";
import { readSafetensors } from "../../../src/formats/safetensors";
import { requireTensor, type TensorDirectory } from "../../../src/formats/tensor-directory";
import { needsFiles } from "../../support/needed-files";
import { readTensorIds, readTensorValues } from "../../support/safetensors-values";
import { openTestFile } from "../../support/test-files";

const repository = new URL("../../../", import.meta.url);
const TYPES = "../shared/golden/gguf-types/types.gguf";
const LLAMA = "../shared/golden/llama-gqa";
const CASES = ["llama-gqa", "llama3-rope-tied", "mistral-window", "falcon-mqa-parallel", "falcon-new-arch", "qwen2-bias"];

function filesUnder(folder: string, extension: string): string[] {
  if (!existsSync(new URL(folder, repository))) return [];
  return readdirSync(new URL(folder, repository), { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(extension))
    .map((path) => `${folder}/${path}`);
}

async function readCheckpoint(path: string): Promise<TensorDirectory> {
  const source = await openTestFile(path);
  return path.endsWith(".gguf") ? readGguf(source) : readSafetensors(source);
}

describe.each(CASES)("golden case %s", (name) => {
  test("its checkpoint has the embedding that its configuration states", async () => {
    const directory = await readCheckpoint(`tests/golden/${name}/model.safetensors`);
    const config = JSON.parse(readFileSync(new URL(`tests/golden/${name}/config.json`, repository), "utf8"));
    const embedding = name.startsWith("falcon") ? "transformer.word_embeddings.weight" : "model.embed_tokens.weight";
    const { range } = requireTensor(directory, embedding, [config.vocab_size, config.hidden_size]);
    expect(range.end - range.start).toBe(config.vocab_size * config.hidden_size * (config.dtype === "float32" ? 4 : 2));
    expect(directory.unsupported.size).toBe(0);
  });

  test("its reference logits choose the first token of its greedy continuation", async () => {
    const golden = await readCheckpoint(`tests/golden/${name}/golden.safetensors`);
    const logits = await readTensorValues(golden, "logits");
    const ids = await readTensorIds(golden, "input_ids");
    const [first] = await readTensorIds(golden, "greedy");
    const lastRow = logits.subarray(logits.length - logits.length / ids.length);
    expect(lastRow.indexOf(Math.max(...lastRow))).toBe(first);
  });
});

test("every safetensors and GGUF file of ../shared is read, from its header alone", await needsFiles(TYPES), async () => {
  const paths = ["../shared/golden", "../shared/models"].flatMap((folder) => [
    ...filesUnder(folder, ".safetensors"),
    ...filesUnder(folder, ".gguf"),
  ]);
  expect(paths.length).toBeGreaterThan(40);
  for (const path of paths) {
    let bytesRead = 0;
    const source = await openTestFile(path);
    const counted: ByteSource = {
      ...source,
      async read(range, signal) {
        bytesRead += range.end - range.start;
        return source.read(range, signal);
      },
    };
    const directory = await (path.endsWith(".gguf") ? readGguf(counted) : readSafetensors(counted));
    const headerBytes = Math.min(...[...directory.tensors.values()].map(({ range }) => range.start));
    expect(bytesRead, path).toBeLessThanOrEqual(2 * headerBytes + 256 * 1024);
  }
});

test("of the sixteen types in types.gguf eleven can be used, and asking for another names it", await needsFiles(TYPES), async () => {
  const directory = await readCheckpoint(TYPES);
  expect([...directory.tensors.values()].map(({ name, type }) => [name, type])).toEqual(
    ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"].map((type) => [type, type]),
  );
  expect([...directory.unsupported.values()].map(({ name, type }) => [name, type])).toEqual(
    ["Q2_K", "Q3_K", "IQ4_NL", "IQ4_XS", "MXFP4"].map((type) => [type, type]),
  );
  expect(() => requireTensor(directory, "IQ4_NL")).toThrow(`"IQ4_NL" in ${TYPES}: type IQ4_NL, expected one of F32`);
});

test("a GGUF and a safetensors file of one model state the same shapes", await needsFiles(`${LLAMA}/model.gguf`), async () => {
  const gguf = await readCheckpoint(`${LLAMA}/model.gguf`);
  const safetensors = await readCheckpoint("tests/golden/llama-gqa/model.safetensors");
  for (const [ours, theirs] of [
    ["token_embd.weight", "model.embed_tokens.weight"],
    ["blk.1.attn_k.weight", "model.layers.1.self_attn.k_proj.weight"],
    ["blk.2.ffn_down.weight", "model.layers.2.mlp.down_proj.weight"],
    ["output_norm.weight", "model.norm.weight"],
  ] as const) {
    expect(requireTensor(gguf, ours).shape).toEqual(requireTensor(safetensors, theirs).shape);
  }
});

test("the embedded model's metadata and tensors are as its description says", async () => {
  const directory = await readCheckpoint("public/models/smollm2-crescendo-64m/smollm2-crescendo-64m-q4_0.gguf");
  expect(directory.metadata.get("general.architecture")).toBe("llama");
  expect(directory.metadata.get("llama.block_count")).toBe(16);
  expect(directory.metadata.get("llama.rope.freq_base")).toBe(100_000);
  expect(directory.metadata.get("tokenizer.ggml.tokens")).toHaveLength(12_288);
  expect(directory.metadata.get("tokenizer.ggml.token_type")).toBeInstanceOf(Float64Array);
  expect(requireTensor(directory, "token_embd.weight", [12_288, 576]).type).toBe("Q8_0");
  expect(requireTensor(directory, "blk.15.attn_k.weight", [192, 576]).type).toBe("Q4_0");
});
