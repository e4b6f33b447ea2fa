// Cuts of decode's products: measured on the loaded model between answers, remembered, taken by the next load.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { EngineCore } from "../../src/engine/engine-core";
import type { BoundKernel } from "../../src/gpu/kernel";
import { type Engine, type EngineEvent, type LoadOptions, loadEngine } from "../../src/index";
import { gemvCandidates, productKey, tuningKey } from "../../src/kernels/gemv-candidates";
import type { StepShape } from "../../src/kernels/step-shape";
import { type DecodeProduct, decodeProducts } from "../../src/model/decode-products";
import { measureProducts } from "../../src/tuning/gemv-measure";
import { tuneWhenIdle } from "../../src/tuning/gemv-tuner";
import { GemvTunings, type TuningEvent } from "../../src/tuning/gemv-tunings";
import { hardwareGpu } from "../support/device-faults";
import { memoryTuningStore } from "../support/memory-tuning-store";
import { generateAfresh, loadTestCore } from "../support/test-core";
import { evaluateAll, readGolden, testModelFiles } from "../support/test-model";

const CASE = "tests/golden/llama-gqa";
const OPTIONS = { contextLength: 128, chunkRows: 72 } as const;
// Quick on any adapter.
const BY_DEFAULT = { lanes: 1, rowsPerThread: 4, workgroupSize: 64, staged: false };
const OTHER = { ...BY_DEFAULT, rowsPerThread: 2 };

/** The steps, but that something else is done, or encoded, before each. */
function beforeEncoding(
  steps: readonly BoundKernel<StepShape>[],
  act: (step: BoundKernel<StepShape>, pass: GPUComputePassEncoder) => void,
): BoundKernel<StepShape>[] {
  return steps.map((step) => {
    const encode = (pass: GPUComputePassEncoder, shape: StepShape) => {
      act(step, pass);
      step.encode(pass, shape);
    };
    return Object.assign(Object.create(step), { encode });
  });
}

describe("what is measured", () => {
  let core: EngineCore;
  beforeAll(async () => {
    core = await loadTestCore(CASE, OPTIONS);
  });
  afterAll(() => core?.dispose());

  const firstProduct = () => decodeProducts(core.model).slice(0, 1);
  /** The product, its cut OTHER replaced by what `change` makes of its steps. */
  const changed = (
    product: DecodeProduct,
    tuning: object,
    change: (steps: readonly BoundKernel<StepShape>[]) => BoundKernel<StepShape>[],
  ) => ({
    ...product,
    bind: async (...[kernels, cut]: Parameters<DecodeProduct["bind"]>) => {
      const steps = await product.bind(kernels, cut);
      return cut === tuning ? change(steps) : steps;
    },
  });

  test("is every product of a step, on the matrices of all layers, and leaves nothing behind", async () => {
    const { hiddenSize, intermediateSize, vocabSize, headCount, kvHeadCount, headDim, layerCount } = core.config;
    const products = decodeProducts(core.model);
    expect(products.map(({ product: { rows, columns, epilogue, norm } }) => [rows, columns, epilogue, norm])).toEqual([
      [(headCount + 2 * kvHeadCount) * headDim, hiddenSize, "store", true],
      [hiddenSize, headCount * headDim, "add", false],
      [2 * intermediateSize, hiddenSize, "silu-gated", true],
      [hiddenSize, intermediateSize, "add", false],
      [vocabSize, hiddenSize, "store", true],
    ]);
    const before = core.memory();
    const dispatches: number[] = [];
    const counting = products.map((product) =>
      changed(product, BY_DEFAULT, (steps) => {
        dispatches.push(steps.length);
        return [...steps];
      }),
    );
    const measured = await measureProducts(core, counting, { candidates: () => [BY_DEFAULT, OTHER] });
    expect(dispatches).toEqual([layerCount, layerCount, layerCount, layerCount, 1]);
    expect(measured.map(({ product }) => product)).toEqual(products.map(({ product }) => product));
    for (const { cuts } of measured) expect(cuts.map(({ tuning }) => tuning)).toEqual([BY_DEFAULT, OTHER]);
    expect(core.memory()).toEqual(before);
  });

  test("gives up a default that takes eight times as long", async () => {
    const eightfold = (steps: readonly BoundKernel<StepShape>[]) =>
      beforeEncoding(steps, (step, pass) => {
        for (let i = 1; i < 8; i++) step.encode(pass, { rows: 1, positions: 1 });
      });
    const products = firstProduct().map((product) => changed(product, BY_DEFAULT, eightfold));
    const [measured] = await measureProducts(core, products, { candidates: () => [BY_DEFAULT, OTHER] });
    expect(measured?.tuning).toEqual(OTHER);
    expect(measured?.speedup).toBeGreaterThan(1);
  });

  test("does not give it up for a cut that is fast and computes nothing", async () => {
    const products = firstProduct().map((product) => changed(product, OTHER, () => []));
    const [measured] = await measureProducts(core, products, { candidates: () => [BY_DEFAULT, OTHER] });
    expect(measured).toMatchObject({ tuning: BY_DEFAULT, speedup: 1 });
  });

  test("goes on after an answer that is asked for meanwhile", async () => {
    const order: string[] = [];
    let answer: Promise<unknown> = Promise.resolve();
    const atFirst = () => {
      order.push(order.length === 0 ? "asked" : "dispatched");
      if (order.length === 1) answer = generateAfresh(core, [1, 2, 3], { maxTokens: 3 }).then(() => order.push("answered"));
    };
    const products = firstProduct().map((product) => changed(product, BY_DEFAULT, (steps) => beforeEncoding(steps, atFirst)));
    await measureProducts(core, products, { candidates: () => [BY_DEFAULT, OTHER] });
    await answer;
    expect(order.slice(0, 3)).toEqual(["asked", "answered", "dispatched"]);
  });

  test("leaves nothing when it is aborted, and no answer changes", async () => {
    const ids = await generateAfresh(core, [1, 2, 3], { maxTokens: 4 });
    const before = core.memory();
    const store = memoryTuningStore();
    const events: TuningEvent[] = [];
    const tunings = await GemvTunings.read(store, (event) => events.push(event));
    const abort = new AbortController();
    let asked = 0;
    const candidates = () => {
      if (++asked > 6) abort.abort(new Error("enough")); // five are asked for beforehand
      return [BY_DEFAULT, OTHER];
    };
    await tuneWhenIdle(core, tunings, (event) => events.push(event), { candidates, signal: abort.signal });
    expect(asked).toBe(7);
    expect([store.text, events]).toEqual([null, []]);
    expect(core.memory()).toEqual(before);
    expect(await generateAfresh(core, [1, 2, 3], { maxTokens: 4 })).toEqual(ids);
  });
});

describe("a load", () => {
  const engines: Engine[] = [];
  afterAll(() => {
    for (const engine of engines) engine.dispose();
  });

  async function load(options: LoadOptions): Promise<{ readonly engine: Engine; readonly tuned: Promise<EngineEvent> }> {
    let tell: (event: EngineEvent) => void;
    const tuned = new Promise<EngineEvent>((resolve) => {
      tell = (event) => /tun/.test(event.type) && resolve(event);
    });
    const shared = { ...OPTIONS, needsTokenizer: false, defaultLimits: true, without: ["subgroups", "subgroup-matrix"] } as const;
    const engine = await loadEngine(testModelFiles(CASE), { ...shared, ...options, onEvent: (event) => tell(event) });
    engines.push(engine);
    return { engine, tuned };
  }

  test("on hardware is measured and stored; the next one takes what is stored, whose logits are the same but for rounding", async () => {
    const store = memoryTuningStore();
    const { engine, tuned } = await load({ gpu: hardwareGpu(), tuning: store });
    const event = await tuned;
    if (event.type !== "gemv-tuned") throw new Error(JSON.stringify(event));
    const { adapters } = JSON.parse(store.text ?? "");
    const stored = Object.fromEntries(event.products.map((product) => [productKey(product), tuningKey(product.tuning)]));
    expect(event.products.length).toBe(5);
    expect(adapters).toEqual({ [engine.adapterName]: stored });

    const near = event.products.map((product) => [
      productKey(product),
      tuningKey(gemvCandidates(product, { software: false })[1] ?? BY_DEFAULT),
    ]);
    const other = memoryTuningStore(JSON.stringify({ version: 1, adapters: { [engine.adapterName]: Object.fromEntries(near) } }));
    const next = await load({ shareDeviceWith: engine, tuning: other });
    const ids = (await readGolden(CASE)).ids.slice(0, 6);
    const [byDefault, cut] = [await evaluateAll(engine, { ids, chunk: 1 }), await evaluateAll(next.engine, { ids, chunk: 1 })];
    const differences = cut.logits.map((logit, index) => Math.abs(logit - (byDefault.logits[index] ?? Number.NaN)));
    expect(Math.max(...differences)).toBeLessThan(1e-3);
    expect(Math.max(...differences)).toBeGreaterThan(0); // sums in another order
  });

  test("on an adapter in software neither measures nor takes anything", async (context) => {
    const store = memoryTuningStore();
    const { tuned, engine } = await load({ tuning: store });
    context.skip(!engine.isSoftware, "the adapter is hardware");
    expect(await Promise.race([tuned, new Promise((resolve) => setTimeout(resolve, 1500))])).toBeUndefined();
    expect(store.text).toBeNull();
  });
});
