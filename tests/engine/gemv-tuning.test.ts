// GEMV parameters: benchmarked on the loaded model between answers, stored, and used by the next load.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { EngineCore } from "../../src/engine/engine-core";
import { Gpu } from "../../src/gpu/device";
import { type Engine, type EngineEvent, type LoadOptions, loadEngine } from "../../src/index";
import { gemvCandidates, productKey, tuningKey } from "../../src/kernels/gemv-candidates";
import type { StepShape } from "../../src/kernels/step-shape";
import { type DecodeProduct, decodeProducts } from "../../src/model/decode-products";
import type { Step } from "../../src/model/vector-step";
import { adapterKey } from "../../src/tuning/adapter-key";
import { measureProducts, type TuningHost } from "../../src/tuning/gemv-measure";
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

/** The same dispatches; `act` runs before each is encoded. */
function beforeEncoding(steps: readonly Step[], act: (step: Step, pass: GPUComputePassEncoder) => void): Step[] {
  return steps.map((step) => {
    const encode = (pass: GPUComputePassEncoder, shape: StepShape) => {
      act(step, pass);
      step.encode(pass, shape);
    };
    return Object.assign(Object.create(step), { encode });
  });
}

/** An engine on `core`, until its device is replaced. */
function replaceableHost(core: EngineCore): { readonly host: TuningHost; readonly replaceBy: (next: EngineCore) => void } {
  let now = core;
  const host: TuningHost = {
    get gpu() {
      return now.gpu;
    },
    get model() {
      return now.model;
    },
    alone: (act, signal) => now.alone(act, signal),
  };
  return {
    host,
    replaceBy: (next) => {
      now = next;
    },
  };
}

describe("measuring", () => {
  let core: EngineCore;
  beforeAll(async () => {
    core = await loadTestCore(CASE, OPTIONS);
  });
  afterAll(() => core?.dispose());

  const firstProduct = () => decodeProducts(core.model).slice(0, 1);
  /** The product; `change` replaces the dispatches of its candidate `tuning`. */
  const changed = (product: DecodeProduct, tuning: object, change: (steps: readonly Step[]) => Step[]) => ({
    ...product,
    bind: async (...[kernels, candidate]: Parameters<DecodeProduct["bind"]>) => {
      const dispatches = await product.bind(kernels, candidate);
      return candidate === tuning ? change(dispatches) : dispatches;
    },
  });

  test("covers every product of a step on the matrices of all layers, and leaks no memory", async () => {
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
    for (const { candidates } of measured) expect(candidates.map(({ tuning }) => tuning)).toEqual([BY_DEFAULT, OTHER]);
    expect(core.memory()).toEqual(before);
  });

  test("replaces a default that takes eight times as long", async () => {
    const eightfold = (steps: readonly Step[]) =>
      beforeEncoding(steps, (step, pass) => {
        for (let i = 1; i < 8; i++) step.encode(pass, { rows: 1, positions: 1 });
      });
    const products = firstProduct().map((product) => changed(product, BY_DEFAULT, eightfold));
    const [measured] = await measureProducts(core, products, { candidates: () => [BY_DEFAULT, OTHER] });
    expect(measured?.tuning).toEqual(OTHER);
    expect(measured?.speedup).toBeGreaterThan(1);
  });

  test("does not replace it by a candidate that is fast and computes nothing", async () => {
    const products = firstProduct().map((product) => changed(product, OTHER, () => []));
    const [measured] = await measureProducts(core, products, { candidates: () => [BY_DEFAULT, OTHER] });
    expect(measured).toMatchObject({ tuning: BY_DEFAULT, speedup: 1 });
  });

  test("does not replace it by a candidate that computes something else", async () => {
    const wrongMatrix = (steps: readonly Step[]) => steps.slice(1); // another layer's matrix
    const slow = (steps: readonly Step[]) =>
      beforeEncoding(steps, (step, pass) => {
        for (let i = 1; i < 8; i++) step.encode(pass, { rows: 1, positions: 1 });
      });
    const products = firstProduct().map((product) => changed(changed(product, OTHER, wrongMatrix), BY_DEFAULT, slow));
    const [measured] = await measureProducts(core, products, { candidates: () => [BY_DEFAULT, OTHER] });
    expect(measured).toMatchObject({ tuning: BY_DEFAULT, speedup: 1 });
  });

  test("lets a request that arrives meanwhile go first", async () => {
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

  test("stores nothing and leaks no memory when it is aborted, and answers stay the same", async () => {
    const ids = await generateAfresh(core, [1, 2, 3], { maxTokens: 4 });
    const before = core.memory();
    const store = memoryTuningStore();
    const events: TuningEvent[] = [];
    const tunings = await GemvTunings.read(store, (event) => events.push(event));
    const abort = new AbortController();
    let asked = 0;
    const candidates = () => {
      if (++asked > 6) abort.abort(new Error("enough")); // the first five calls look for products that are not stored
      return [BY_DEFAULT, OTHER];
    };
    await tuneWhenIdle(core, tunings, (event) => events.push(event), { candidates, signal: abort.signal });
    expect(asked).toBe(7);
    expect([store.text, events]).toEqual([null, []]);
    expect(core.memory()).toEqual(before);
    expect(await generateAfresh(core, [1, 2, 3], { maxTokens: 4 })).toEqual(ids);
  });

  // The products of the lost device's model were measured on the new device.
  test("that waits while the device is replaced measures the new device's model", async () => {
    const lost = await loadTestCore(CASE, OPTIONS);
    const errors: string[] = [];
    const stopListening = core.gpu.onError(({ message }) => errors.push(message));
    const { host, replaceBy } = replaceableHost(lost);
    const events: TuningEvent[] = [];
    const onEvent = (event: TuningEvent) => events.push(event);
    const tuning = tuneWhenIdle(host, await GemvTunings.read(memoryTuningStore(), onEvent), onEvent, {
      candidates: () => [BY_DEFAULT, OTHER],
    });
    replaceBy(core);
    lost.dispose();
    await tuning;
    stopListening();
    expect([events.map(({ type }) => type), errors]).toEqual([["gemv-tuned"], []]);
  });

  test("stops without an event when the device is replaced in the middle of it", async () => {
    const lost = await loadTestCore(CASE, OPTIONS);
    const { host, replaceBy } = replaceableHost(lost);
    const store = memoryTuningStore();
    const events: TuningEvent[] = [];
    const onEvent = (event: TuningEvent) => events.push(event);
    let asked = 0;
    const candidates = () => {
      if (++asked > 6) replaceBy(core);
      return [BY_DEFAULT, OTHER];
    };
    await tuneWhenIdle(host, await GemvTunings.read(store, onEvent), onEvent, { candidates });
    lost.dispose();
    expect([asked, store.text, events]).toEqual([7, null, []]);
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

  test("on hardware measures and stores; the next one uses the stored parameters, and its logits differ by rounding only", async () => {
    const store = memoryTuningStore();
    const { engine, tuned } = await load({ gpu: hardwareGpu(), tuning: store });
    const event = await tuned;
    if (event.type !== "gemv-tuned") throw new Error(JSON.stringify(event));
    const { adapters } = JSON.parse(store.text ?? "");
    const stored = Object.fromEntries(event.products.map((product) => [productKey(product), tuningKey(product.tuning)]));
    expect(event.products.length).toBe(5);
    expect(adapters).toEqual({ [engine.adapterName]: stored });

    const nearest = event.products.map((product) => [
      productKey(product),
      tuningKey(gemvCandidates(product, { software: false })[1] ?? BY_DEFAULT),
    ]);
    const other = memoryTuningStore(JSON.stringify({ version: 1, adapters: { [engine.adapterName]: Object.fromEntries(nearest) } }));
    const next = await load({ shareDeviceWith: engine, tuning: other });
    const ids = (await readGolden(CASE)).ids.slice(0, 6);
    const [byDefault, near] = [await evaluateAll(engine, { ids, chunk: 1 }), await evaluateAll(next.engine, { ids, chunk: 1 })];
    const differences = near.logits.map((logit, index) => Math.abs(logit - (byDefault.logits[index] ?? Number.NaN)));
    expect(Math.max(...differences)).toBeLessThan(1e-3);
    expect(Math.max(...differences)).toBeGreaterThan(0); // sums in another order
  });

  test("on an adapter without a name stores under its limits", async () => {
    const unnamed = hardwareGpu();
    const requestAdapter = async (options?: GPURequestAdapterOptions) => {
      const adapter = await unnamed.requestAdapter(options);
      if (!adapter) return null;
      const { features, limits, requestDevice } = adapter;
      return { features, limits, requestDevice, info: { ...adapter.info, vendor: "", architecture: "", description: "" } };
    };
    const gpu = await Gpu.request({ gpu: { requestAdapter } as unknown as GPU, defaultLimits: true });
    expect(adapterKey(gpu)).toContain(`buffers of ${gpu.limits.maxBufferSize} bytes`);
    gpu.dispose();
  });

  test("on a software adapter measures nothing and stores nothing", async (context) => {
    const store = memoryTuningStore();
    const { tuned, engine } = await load({ tuning: store });
    context.skip(!engine.isSoftware, "the adapter is hardware");
    expect(await Promise.race([tuned, new Promise((resolve) => setTimeout(resolve, 1500))])).toBeUndefined();
    expect(store.text).toBeNull();
  });
});
