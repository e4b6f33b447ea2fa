// Real checkpoints, from their files to packed matrices: both file formats of a case must give the same weights.
import { describe, expect, test } from "vitest";
import { readGguf } from "../../../src/formats/gguf";
import { readSafetensors } from "../../../src/formats/safetensors";
import { requireTensor, type TensorDirectory } from "../../../src/formats/tensor-directory";
import { paddedColumns } from "../../../src/weight-format";
import { configFromGguf } from "../../../src/weights/config-from-gguf";
import { configFromJson } from "../../../src/weights/config-from-json";
import type { ModelConfig } from "../../../src/weights/model-config";
import {
  checkNothingLeftOver,
  layerRecipe,
  type MatrixRecipe,
  outerRecipe,
  recipeFileBytes,
  splitRows,
  type WeightRecipe,
} from "../../../src/weights/model-weights";
import { packMatrix } from "../../../src/weights/pack";
import { readMatrix, readVector } from "../../../src/weights/read-weights";
import { needsFiles } from "../../support/needed-files";
import { readTensorValues } from "../../support/safetensors-values";
import { openTestFile, readTestJson } from "../../support/test-files";
import { mismatchCount } from "./compare";
import { unpackMatrix } from "./unpack-matrix";

const CASES = ["llama-gqa", "llama3-rope-tied", "mistral-window", "falcon-mqa-parallel", "falcon-new-arch", "qwen2-bias"];
const shared = (name: string) => `../shared/golden/${name}/model.gguf`;
const PIECE_CASES = ["llama-gqa", "falcon-new-arch", "qwen2-bias"];
// llama.cpp wrote no GGUF of the case with a window.
const CASES_WITH_GGUF = await Promise.all(
  CASES.filter((name) => name !== "mistral-window").map(async (name) => ({ name, needsGguf: await needsFiles(shared(name)) })),
);

interface Checkpoint {
  readonly config: ModelConfig;
  readonly directory: TensorDirectory;
}

async function openSafetensors(name: string): Promise<Checkpoint> {
  const folder = `tests/golden/${name}`;
  const directory = await readSafetensors(await openTestFile(`${folder}/model.safetensors`));
  return { directory, config: configFromJson(await readTestJson(`${folder}/config.json`), `${folder}/config.json`) };
}

async function openGguf(path: string): Promise<Checkpoint> {
  const directory = await readGguf(await openTestFile(path));
  return { directory, config: await configFromGguf(directory) };
}

function allRecipes({ config, directory }: Checkpoint): WeightRecipe[] {
  const layers = Array.from({ length: config.layerCount }, (_, layer) => layerRecipe(config, directory, layer));
  return [outerRecipe(config, directory), ...layers];
}

async function values(recipe: MatrixRecipe): Promise<Float32Array> {
  return unpackMatrix(packMatrix(await readMatrix({ ...recipe, format: "f32" })));
}

for (const { name, needsGguf } of CASES_WITH_GGUF)
  describe(`${name} as safetensors and as GGUF`, needsGguf, () => {
    test("has the same configuration, but for what llama.cpp does not write", async () => {
      const { rope, normEpsilon, ...config } = (await openSafetensors(name)).config;
      const gguf = (await openGguf(shared(name))).config;
      expect(gguf).toMatchObject(name.startsWith("falcon") ? { ...config, maxPositions: 2048 } : config);
      expect(gguf.normEpsilon).toBe(Math.fround(normEpsilon));
      expect(gguf.rope).toEqual({
        ...rope,
        ...(rope.frequencyDivisors && { frequencyDivisors: rope.frequencyDivisors.map((divisor) => expect.closeTo(divisor, 5)) }),
      });
    });

    test("gives the same matrices and vectors, row by row", async () => {
      const [ours, theirs] = [allRecipes(await openSafetensors(name)), allRecipes(await openGguf(shared(name)))];
      expect(theirs.length).toBe(ours.length);
      for (const [unit, recipe] of ours.entries()) {
        const other = theirs[unit];
        expect(other?.matrices.map(({ role }) => role)).toEqual(recipe.matrices.map(({ role }) => role));
        expect(other?.vectors.map(({ role }) => role)).toEqual(recipe.vectors.map(({ role }) => role));
        for (const [index, matrix] of recipe.matrices.entries()) {
          const otherMatrix = other?.matrices[index];
          expect(mismatchCount(await values(matrix), otherMatrix ? await values(otherMatrix) : []), `unit ${unit} ${matrix.role}`).toBe(0);
        }
        for (const [index, vector] of recipe.vectors.entries()) {
          const otherVector = other?.vectors[index];
          expect(mismatchCount(await readVector(vector), otherVector ? await readVector(otherVector) : []), vector.role).toBe(0);
        }
      }
    });
  });

test.each(CASES)("%s has no tensor that no recipe uses", async (name) => {
  const { config, directory } = await openSafetensors(name);
  expect(() => checkNothingLeftOver(config, directory)).not.toThrow();
});

test("llama-gqa's q, k and v lie one after the other, and gate and up in turns", async () => {
  const checkpoint = await openSafetensors("llama-gqa");
  const { config, directory } = checkpoint;
  const { matrices } = layerRecipe(config, directory, 3);
  const stored = (stem: string) => readTensorValues(directory, `model.layers.3.${stem}.weight`);
  const [qkv, , gateUp] = await Promise.all(matrices.map(values));
  const expectedQkv = await Promise.all(["q", "k", "v"].map((part) => stored(`self_attn.${part}_proj`)));
  expect(
    mismatchCount(
      qkv ?? [],
      expectedQkv.flatMap((part) => [...part]),
    ),
  ).toBe(0);
  const [gate, up] = [await stored("mlp.gate_proj"), await stored("mlp.up_proj")];
  const row = (of: Float32Array, index: number) => [...of.subarray(index * config.hiddenSize, (index + 1) * config.hiddenSize)];
  const expectedGateUp = Array.from({ length: config.intermediateSize }, (_, index) => [...row(gate, index), ...row(up, index)]).flat();
  expect(mismatchCount(gateUp ?? [], expectedGateUp)).toBe(0);
});

test("falcon-new-arch's fused projection is taken apart group by group", async () => {
  const { config, directory } = await openSafetensors("falcon-new-arch");
  const { headCount, kvHeadCount, headDim, hiddenSize } = config;
  const fused = await readTensorValues(directory, "transformer.h.2.self_attention.query_key_value.weight");
  const head = (index: number) => [...fused.subarray(index * headDim * hiddenSize, (index + 1) * headDim * hiddenSize)];
  const [qkv] = layerRecipe(config, directory, 2).matrices;
  // 4 query heads and 2 K/V heads: q0 q1 k0 v0 q2 q3 k1 v1 in the file.
  expect([headCount, kvHeadCount]).toEqual([4, 2]);
  expect(mismatchCount(qkv ? await values(qkv) : [], [0, 1, 4, 5, 2, 6, 3, 7].flatMap(head))).toBe(0);
});

test("rows are padded with zeros to whole groups of 32, in every format", async () => {
  const { config, directory } = await openSafetensors("llama-gqa");
  for (const quantise of [undefined, "f16", "q8", "q4"] as const) {
    const recipe = layerRecipe(config, directory, 0, quantise ? { quantise } : {}).matrices.find(({ role }) => role === "down");
    expect([recipe?.columns, recipe?.format]).toEqual([176, quantise ?? "f16"]);
    const unpacked = recipe ? unpackMatrix(packMatrix(await readMatrix(recipe))) : [];
    const stride = paddedColumns(176);
    const padding = [...unpacked].filter((_, index) => index % stride >= 176);
    expect(padding.length).toBe(64 * 16);
    expect(mismatchCount(padding, new Float32Array(64 * 16))).toBe(0);
  }
});

describe("pieces of a matrix", await needsFiles(...PIECE_CASES.map(shared)), () => {
  test.each(PIECE_CASES)("of %s, put together again, are the matrix", async (name) => {
    for (const checkpoint of [await openSafetensors(name), await openGguf(shared(name))]) {
      for (const recipe of allRecipes(checkpoint).flatMap(({ matrices }) => matrices)) {
        const whole = packMatrix(await readMatrix(recipe));
        const pieces = splitRows(recipe, 1); // as small as pieces get
        for (const { rowOffset, recipe: piece } of pieces) {
          const part = packMatrix(await readMatrix(piece));
          const bytesPerRow = whole.codes.length / whole.rows;
          expect(mismatchCount(part.codes, whole.codes.subarray(rowOffset * bytesPerRow, (rowOffset + part.rows) * bytesPerRow))).toBe(0);
        }
        expect(pieces.reduce((sum, { recipe: piece }) => sum + piece.rows, 0)).toBe(recipe.rows);
        expect(pieces.reduce((sum, { recipe: piece }) => sum + recipeFileBytes(piece), 0)).toBe(recipeFileBytes(recipe));
      }
    }
  });
});

const mixed = "../shared/golden/quantised/q4_k_m/model.gguf";
const smol = "../shared/models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf";

test("a matrix of mixed types has the format of the most precise one", await needsFiles(mixed), async () => {
  const { config, directory } = await openGguf(mixed);
  const qkvOf = (layer: number) => layerRecipe(config, directory, layer).matrices.find(({ role }) => role === "qkv");
  expect(qkvOf(0)?.format).toBe("q4m");
  expect(qkvOf(1)?.parts.map(({ tensor }) => tensor.type)).toEqual(["Q4_K", "Q4_K", "Q6_K"]);
  expect(qkvOf(1)?.format).toBe("q8");
});

test("the real SmolLM2 is planned from its header, and its table comes in pieces", await needsFiles(smol), async () => {
  const { config, directory } = await openGguf(smol);
  expect(() => checkNothingLeftOver(config, directory)).not.toThrow();
  expect(config).toMatchObject({ family: "llama", layerCount: 30, kvHeadCount: 3, tiedEmbedding: true, vocabSize: 49152 });
  const [embedding] = outerRecipe(config, directory).matrices;
  const pieces = embedding ? splitRows(embedding, 8 * 2 ** 20) : [];
  expect(pieces.length).toBe(4);
  for (const { recipe } of pieces) expect(recipeFileBytes(recipe)).toBeLessThanOrEqual(8 * 2 ** 20);
  const table = requireTensor(directory, "token_embd.weight");
  expect(pieces.map(({ recipe }) => recipe.parts[0]?.tensor.range.start)[0]).toBe(table.range.start);
  expect(pieces.at(-1)?.recipe.parts[0]?.tensor.range.end).toBe(table.range.end);
});
