// The recipes of all of a model's weights, known before any is read: how tensors become our matrices and vectors, and their sizes.
import { assert, present } from "../assert";
import type { TensorDirectory } from "../formats/tensor-directory";
import type { LayerShapes } from "../model/layer-program";
import type { ModelConfig } from "../weights/model-config";
import {
  checkNothingLeftOver,
  layerRecipe,
  type MatrixRecipe,
  type MatrixRole,
  outerRecipe,
  type RecipeOptions,
  recipeFileBytes,
  type WeightRecipe,
} from "../weights/model-weights";
import { countRows } from "../weights/row-set";
import type { Unit } from "./plan";

export class ModelRecipe {
  readonly layers: readonly WeightRecipe[];
  readonly outer: WeightRecipe;
  readonly totalBytes: number;
  /** File bytes of each layer. */
  readonly layerBytes: readonly number[];
  /** File bytes of one row of the embedding, plus one of the head if it is a separate matrix. */
  readonly rowBytes: number;

  /** @throws LlmError "bad-weights" | "unsupported" if the tensors do not fit the configuration. */
  constructor(config: ModelConfig, directory: TensorDirectory, options: RecipeOptions) {
    checkNothingLeftOver(config, directory);
    this.layers = Array.from({ length: config.layerCount }, (_, layer) => layerRecipe(config, directory, layer, options));
    this.outer = outerRecipe(config, directory, options);
    this.layerBytes = this.layers.map(recipeBytes);
    this.rowBytes = this.outer.matrices.reduce((sum, matrix) => sum + recipeFileBytes(matrix) / matrix.rows, 0);
    this.totalBytes = [this.outer, ...this.layers].reduce((sum, recipe) => sum + recipeBytes(recipe), 0);
  }

  /** File bytes that belong to neither a layer nor a row: the final norm. They come with the first stage. */
  get otherBytes(): number {
    return this.outer.vectors.reduce((sum, vector) => sum + recipeFileBytes(vector), 0);
  }

  /** File bytes of `units`. */
  unitBytes(units: readonly Unit[]): number {
    return units.reduce(
      (sum, unit) => sum + (unit.kind === "layer" ? (this.layerBytes[unit.layer] ?? 0) : countRows(unit.rows) * this.rowBytes),
      0,
    );
  }

  /** The distinct combinations of formats and sizes. Each needs its own kernels. */
  layerShapes(): LayerShapes[] {
    const distinct = new Map<string, LayerShapes>();
    for (const recipe of this.layers) {
      const shapes = {
        qkv: matrixRecipe(recipe, "qkv"),
        attentionOutput: matrixRecipe(recipe, "attentionOutput"),
        up: upRecipe(recipe),
        down: matrixRecipe(recipe, "down"),
      };
      distinct.set(
        Object.values(shapes)
          .map(({ format, rows, columns }) => `${format} ${rows} ${columns}`)
          .join(),
        shapes,
      );
    }
    return [...distinct.values()];
  }

  outerShapes(): { readonly embedding: MatrixRecipe; readonly head: MatrixRecipe } {
    const embedding = matrixRecipe(this.outer, "embedding");
    return { embedding, head: this.outer.matrices.find(({ role }) => role === "head") ?? embedding };
  }
}

function recipeBytes(recipe: WeightRecipe): number {
  return [...recipe.matrices, ...recipe.vectors].reduce((sum, part) => sum + recipeFileBytes(part), 0);
}

function matrixRecipe(recipe: WeightRecipe, role: MatrixRole): MatrixRecipe {
  return present(
    recipe.matrices.find((matrix) => matrix.role === role),
    role,
  );
}

function upRecipe(recipe: WeightRecipe): MatrixRecipe {
  const up = recipe.matrices.find(({ role }) => role === "gateUp" || role === "up");
  assert(up, "a layer without an up projection");
  return up;
}
