// The place of one decoder layer in the model. Weights change only through `replace`.
import type { LayerProgram } from "./layer-program";
import type { LayerWeights } from "./layer-weights";

/** Weights with the kernels bound to them. The next step can encode them. */
export interface ReadyLayer {
  readonly weights: LayerWeights;
  readonly program: LayerProgram;
}

export class LayerSlot {
  readonly layer: number;
  #current: ReadyLayer | null = null;

  constructor(layer: number) {
    this.layer = layer;
  }

  /** Null while the layer is absent. An absent layer is not dispatched. */
  get program(): LayerProgram | null {
    return this.#current?.program ?? null;
  }

  get weights(): LayerWeights | null {
    return this.#current?.weights ?? null;
  }

  /**
   * Puts `next` in this place between two steps and returns the previous weights. The caller frees them once no submitted step reads them (WebGPU keeps a
   * destroyed buffer's memory until then).
   */
  replace(next: ReadyLayer | null): LayerWeights | null {
    const previous = this.#current;
    this.#current = next;
    return previous?.weights ?? null;
  }
}
