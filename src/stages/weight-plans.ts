// What a model's weights are, before any is read: how each layer's tensors, and those around the layers, become ours, and what they weigh.
import { assert, present } from "../assert";
import type { TensorDirectory } from "../formats/tensor-directory";
import type { LayerShapes } from "../model/layer-program";
import type { ModelConfig } from "../weights/model-config";
import {
  checkNothingLeftOver,
  type MatrixPlan,
  type MatrixRole,
  type PlanOptions,
  planFileBytes,
  planGlobals,
  planLayer,
  type WeightPlan,
} from "../weights/model-weights";
import { countRows } from "../weights/row-set";
import type { Unit } from "./plan";

export class WeightPlans {
  readonly layers: readonly WeightPlan[];
  readonly outer: WeightPlan;
  readonly totalBytes: number;
  /** Of the files, by layer. */
  readonly layerBytes: readonly number[];
  /** Of the files, for one row of the embedding and, where it is apart, of the head. */
  readonly rowBytes: number;

  /** @throws LlmError "bad-weights" | "unsupported" where the tensors do not fit the configuration. */
  constructor(config: ModelConfig, directory: TensorDirectory, options: PlanOptions) {
    checkNothingLeftOver(config, directory);
    this.layers = Array.from({ length: config.layerCount }, (_, layer) => planLayer(config, directory, layer, options));
    this.outer = planGlobals(config, directory, options);
    this.layerBytes = this.layers.map(planBytes);
    this.rowBytes = this.outer.matrices.reduce((sum, matrix) => sum + planFileBytes(matrix) / matrix.rows, 0);
    this.totalBytes = [this.outer, ...this.layers].reduce((sum, plan) => sum + planBytes(plan), 0);
  }

  /** Bytes of the files that neither a layer nor a row needs: the final norm. They come with the first stage. */
  get otherBytes(): number {
    return this.outer.vectors.reduce((sum, vector) => sum + planFileBytes(vector), 0);
  }

  /** Bytes of the files that units take. */
  unitBytes(units: readonly Unit[]): number {
    return units.reduce(
      (sum, unit) => sum + (unit.kind === "layer" ? (this.layerBytes[unit.layer] ?? 0) : countRows(unit.rows) * this.rowBytes),
      0,
    );
  }

  /** The distinct combinations of formats and sizes, each of which needs kernels of its own. */
  layerShapes(): LayerShapes[] {
    const distinct = new Map<string, LayerShapes>();
    for (const plan of this.layers) {
      const shapes = {
        qkv: matrixPlan(plan, "qkv"),
        attentionOutput: matrixPlan(plan, "attentionOutput"),
        up: upPlan(plan),
        down: matrixPlan(plan, "down"),
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

  outerShapes(): { readonly embedding: MatrixPlan; readonly head: MatrixPlan } {
    const embedding = matrixPlan(this.outer, "embedding");
    return { embedding, head: this.outer.matrices.find(({ role }) => role === "head") ?? embedding };
  }
}

function planBytes(plan: WeightPlan): number {
  return [...plan.matrices, ...plan.vectors].reduce((sum, part) => sum + planFileBytes(part), 0);
}

function matrixPlan(plan: WeightPlan, role: MatrixRole): MatrixPlan {
  return present(
    plan.matrices.find((matrix) => matrix.role === role),
    role,
  );
}

function upPlan(plan: WeightPlan): MatrixPlan {
  const up = plan.matrices.find(({ role }) => role === "gateUp" || role === "up");
  assert(up, "a layer without an up projection");
  return up;
}
