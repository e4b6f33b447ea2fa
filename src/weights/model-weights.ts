// How a checkpoint's tensors become our weights: which rows of which tensors make up each matrix, and in which format it is kept.
import { present } from "../assert";
import { LlmError } from "../errors";
import { requireTensor, TENSOR_BLOCKS, type TensorDirectory, type TensorInfo, type TensorType } from "../formats/tensor-directory";
import type { WeightFormat } from "../weight-format";
import { FAMILIES } from "./families";
import type { Family, QkvNames } from "./families/family";
import type { ModelConfig } from "./model-config";
import { clipRuns, type RowRun, rowsFromAdjacentPairs, rowsFromHeadGroups, rowsInOrder, sourceRows } from "./row-runs";
import type { RowSet } from "./row-set";

export type MatrixRole = "qkv" | "attentionOutput" | "gateUp" | "up" | "down" | "embedding" | "head";

export type VectorRole =
  | "attentionNormWeight"
  | "attentionNormBias"
  | "mlpNormWeight"
  | "mlpNormBias"
  | "qkvBias"
  | "finalNormWeight"
  | "finalNormBias";

export interface RecipePart {
  readonly tensor: TensorInfo;
  readonly runs: readonly RowRun[];
}

/** Rows of `qkv`: all query heads, all key heads, all value heads. Rows of `gateUp`: 2i is gate i, 2i + 1 is up i. */
export interface MatrixRecipe {
  readonly role: MatrixRole;
  readonly rows: number;
  readonly columns: number;
  readonly format: WeightFormat;
  readonly parts: readonly RecipePart[];
}

/** Always f32 on the GPU. `qkvBias` is in the order of qkv's rows. */
export interface VectorRecipe {
  readonly role: VectorRole;
  readonly length: number;
  readonly parts: readonly RecipePart[];
}

/** The weights of one layer, or those outside the layers. */
export interface WeightRecipe {
  readonly matrices: readonly MatrixRecipe[];
  readonly vectors: readonly VectorRecipe[];
}

export interface RecipeOptions {
  /**
   * The format for matrices stored as f32, f16 or bf16. By default f32 stays, and f16 and bf16 become f16. With "q4" the embedding and the head
   * become q8: they suffer most from 4 bits, and llama.cpp's 4-bit files keep them at 6 or 8 bits as well.
   */
  readonly quantise?: "q8" | "q4" | "f16";
}

/**
 * The weights of one layer.
 *
 * @throws LlmError "bad-weights" when a tensor is missing or has another shape than the config says; "unsupported" for its type
 */
export function layerRecipe(config: ModelConfig, directory: TensorDirectory, layer: number, options: RecipeOptions = {}): WeightRecipe {
  const { hiddenSize, intermediateSize, headCount, headDim } = config;
  const names = familyOf(config).layerNames(directory.format, layer, config);
  const maker = new RecipeMaker(directory, options);
  const qkv = qkvParts(names.qkv, config);
  const vectors = maker.norm("attentionNorm", names.attentionNorm, config);
  if (names.mlpNorm !== undefined) vectors.push(...maker.norm("mlpNorm", names.mlpNorm, config));
  if (config.qkvBias) vectors.push(maker.vector("qkvBias", "bias", qkv));
  const matrices = [
    maker.matrix("qkv", hiddenSize, qkv),
    maker.matrix("attentionOutput", headCount * headDim, [wholeTensor(names.attentionOutput, hiddenSize)]),
    names.gate === undefined
      ? maker.matrix("up", hiddenSize, [wholeTensor(names.up, intermediateSize)])
      : maker.matrix("gateUp", hiddenSize, rowsInTurns([names.gate, names.up], intermediateSize)),
    maker.matrix("down", intermediateSize, [wholeTensor(names.down, hiddenSize)]),
  ];
  return { matrices, vectors };
}

/** The embedding, the final norm and, unless it is tied to the embedding, the head. Throws as `layerRecipe` does. */
export function outerRecipe(config: ModelConfig, directory: TensorDirectory, options: RecipeOptions = {}): WeightRecipe {
  const { hiddenSize, vocabSize } = config;
  const names = familyOf(config).globalNames(directory.format);
  const maker = new RecipeMaker(directory, options.quantise === "q4" ? { quantise: "q8" } : options);
  const matrices = [maker.matrix("embedding", hiddenSize, [wholeTensor(names.embedding, vocabSize)])];
  if (!config.tiedEmbedding) matrices.push(maker.matrix("head", hiddenSize, [wholeTensor(names.head, vocabSize)]));
  return { matrices, vectors: maker.norm("finalNorm", names.finalNorm, config) };
}

/**
 * Refuses a checkpoint with tensors that no recipe uses: an unknown bias or norm would change what the model computes.
 *
 * @throws LlmError "unsupported"; what `layerRecipe` throws
 */
export function checkNothingLeftOver(config: ModelConfig, directory: TensorDirectory): void {
  const recipes = [outerRecipe(config, directory)];
  for (let layer = 0; layer < config.layerCount; layer++) recipes.push(layerRecipe(config, directory, layer));
  const used = new Set(
    recipes.flatMap(({ matrices, vectors }) => [...matrices, ...vectors]).flatMap((recipe) => recipe.parts.map((part) => part.tensor.name)),
  );
  // A tied head may be stored anyway, and old Llama checkpoints store rotary frequencies that follow from their config.
  used.add(`${familyOf(config).globalNames(directory.format).head}.weight`).add(ROPE_DIVISORS);
  for (const name of [...directory.tensors.keys(), ...directory.unsupported.keys()]) {
    if (used.has(name) || name.endsWith(".rotary_emb.inv_freq")) continue;
    throw new LlmError(
      "unsupported",
      `"${name}" in ${directory.name}: not part of a known ${config.family} model of ${config.layerCount} layers. ` +
        "Is the file a variant of the architecture, or its config another model's?",
    );
  }
}

/** Some rows of a matrix, from row `rowOffset` on, as a separate recipe. */
export interface MatrixPiece {
  readonly rowOffset: number;
  readonly recipe: MatrixRecipe;
}

// Pieces never split a head or a pair of gate and up, so no row of the file is read twice.
const PIECE_ROWS = 256;

/** Like `splitRows`, for some of the rows. */
export function splitRowSet(recipe: MatrixRecipe, rows: RowSet, maxFileBytes: number): readonly MatrixPiece[] {
  return rows.flatMap(({ start, end }) => {
    const narrowed = narrowRows(recipe, start, end);
    return splitRows(narrowed.recipe, maxFileBytes).map(({ rowOffset, recipe: piece }) => ({
      rowOffset: start + rowOffset,
      recipe: piece,
    }));
  });
}

/** Splits `recipe` into pieces that read at most about `maxFileBytes` (but at least 256 rows). A small recipe stays one piece. */
export function splitRows(recipe: MatrixRecipe, maxFileBytes: number): readonly MatrixPiece[] {
  const fileBytes = recipeFileBytes(recipe);
  if (fileBytes <= maxFileBytes) return [{ rowOffset: 0, recipe }];
  const rowsThatFit = (maxFileBytes * recipe.rows) / fileBytes;
  const pieceRows = Math.max(1, Math.floor(rowsThatFit / PIECE_ROWS)) * PIECE_ROWS;
  const pieces: MatrixPiece[] = [];
  for (let start = 0; start < recipe.rows; start += pieceRows) {
    pieces.push(narrowRows(recipe, start, Math.min(start + pieceRows, recipe.rows)));
  }
  return pieces;
}

/** Rows `start` to `end` (exclusive) of `recipe`. */
function narrowRows(recipe: MatrixRecipe, start: number, end: number): MatrixPiece {
  const parts = recipe.parts.flatMap((part) => narrowedPart(part, start, end));
  return { rowOffset: start, recipe: { ...recipe, rows: end - start, parts } };
}

/** File bytes that the recipe reads. */
export function recipeFileBytes({ parts }: Pick<MatrixRecipe | VectorRecipe, "parts">): number {
  return parts.reduce((sum, { tensor }) => sum + tensor.range.end - tensor.range.start, 0);
}

/** A GGUF's tensor of divisors for the rotary frequencies. `configFromGguf` puts it into the config. */
export const ROPE_DIVISORS = "rope_freqs.weight";

/** A tensor `<stem>.weight` or `<stem>.bias` of `rows` rows, and the target of each row. */
interface NamedPart {
  readonly stem: string;
  readonly rows: number;
  readonly runs: readonly RowRun[];
}

function wholeTensor(stem: string, rows: number): NamedPart {
  return { stem, rows, runs: rowsInOrder(rows) };
}

function rowsInTurns(stems: readonly string[], rows: number): NamedPart[] {
  return stems.map((stem, to) => ({ stem, rows, runs: rowsInOrder(rows, { to, toStep: stems.length }) }));
}

function qkvParts(names: QkvNames, { headCount, kvHeadCount, headDim }: ModelConfig): NamedPart[] {
  const queryRows = headCount * headDim;
  const kvRows = kvHeadCount * headDim;
  if ("fused" in names) {
    const rows = queryRows + 2 * kvRows;
    const runs = names.rows === "in-order" ? rowsInOrder(rows) : rowsFromHeadGroups({ headCount, kvHeadCount, headDim });
    return [{ stem: names.fused, rows, runs }];
  }
  const rotated = (heads: number, to: number): readonly RowRun[] =>
    names.rotaryPairs === "adjacent" ? rowsFromAdjacentPairs(heads, headDim, to) : rowsInOrder(heads * headDim, { to });
  return [
    { stem: names.query, rows: queryRows, runs: rotated(headCount, 0) },
    { stem: names.key, rows: kvRows, runs: rotated(kvHeadCount, queryRows) },
    { stem: names.value, rows: kvRows, runs: rowsInOrder(kvRows, { to: queryRows + kvRows }) },
  ];
}

/** The part's contribution to rows `start` to `end` of its matrix; empty if it has none. */
function narrowedPart({ tensor, runs }: RecipePart, start: number, end: number): RecipePart[] {
  const clipped = clipRuns(runs, start, end);
  if (clipped.length === 0) return [];
  const source = sourceRows(clipped);
  return [{ tensor: tensorRows(tensor, source), runs: clipped.map((run) => ({ ...run, from: run.from - source.start })) }];
}

function tensorRows(tensor: TensorInfo, { start, end }: { readonly start: number; readonly end: number }): TensorInfo {
  const columns = tensor.shape.at(-1) ?? 1;
  const block = TENSOR_BLOCKS[tensor.type];
  const rowBytes = (columns / block.elements) * block.bytes;
  const first = tensor.range.start;
  return { ...tensor, shape: [end - start, columns], range: { start: first + start * rowBytes, end: first + end * rowBytes } };
}

class RecipeMaker {
  readonly #directory: TensorDirectory;
  readonly #options: RecipeOptions;

  constructor(directory: TensorDirectory, options: RecipeOptions) {
    this.#directory = directory;
    this.#options = options;
  }

  matrix(role: MatrixRole, columns: number, parts: readonly NamedPart[]): MatrixRecipe {
    const found = parts.map(({ stem, rows, runs }) => ({
      tensor: requireTensor(this.#directory, `${stem}.weight`, [rows, columns]),
      runs,
    }));
    const formats = found.map(({ tensor }) => formatFor(tensor.type, this.#options));
    return { role, rows: rowCount(parts), columns, format: widest(formats), parts: found };
  }

  vector(role: VectorRole, kind: "weight" | "bias", parts: readonly NamedPart[]): VectorRecipe {
    const found = parts.map(({ stem, rows, runs }) => ({ tensor: requireTensor(this.#directory, `${stem}.${kind}`, [rows]), runs }));
    return { role, length: rowCount(parts), parts: found };
  }

  norm(role: "attentionNorm" | "mlpNorm" | "finalNorm", stem: string, { norm, hiddenSize }: ModelConfig): VectorRecipe[] {
    const parts = [wholeTensor(stem, hiddenSize)];
    const weight = this.vector(`${role}Weight`, "weight", parts);
    return norm === "layer" ? [weight, this.vector(`${role}Bias`, "bias", parts)] : [weight];
  }
}

const KEPT_AS: Readonly<Record<TensorType, WeightFormat>> = {
  F32: "f32",
  F16: "f16",
  BF16: "f16",
  Q8_0: "q8",
  Q4_0: "q4",
  Q4_1: "q4m",
  Q5_0: "q8",
  Q5_1: "q8",
  Q4_K: "q4m",
  Q5_K: "q8",
  Q6_K: "q8",
};

function formatFor(type: TensorType, { quantise }: RecipeOptions): WeightFormat {
  const isQuantised = TENSOR_BLOCKS[type].elements > 1;
  return quantise === undefined || isQuantised ? KEPT_AS[type] : quantise;
}

const NARROWEST_FIRST: readonly WeightFormat[] = ["q4", "q4m", "q8", "f16", "f32"];

/** A matrix has the format of its most precise part, which holds the other parts exactly or nearly so. */
function widest(formats: readonly WeightFormat[]): WeightFormat {
  return present(
    NARROWEST_FIRST.findLast((format) => formats.includes(format)),
    "a part of the matrix",
  );
}

function rowCount(parts: readonly NamedPart[]): number {
  return parts.reduce((sum, part) => sum + part.rows, 0);
}

function familyOf({ family }: ModelConfig): Family {
  return present(FAMILIES.get(family), `the family "${family}"`);
}
