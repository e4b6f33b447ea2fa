// Drivers that miscompile subgroups, matrix units or 8-bit dot products: the engine detects it, reports it and answers correctly without them.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { present } from "../../src/assert";
import { createRuntime } from "../../src/engine/create-runtime";
import { EngineCore } from "../../src/engine/engine-core";
import { resolveEngineOptions } from "../../src/engine/engine-options";
import { WeightSupply } from "../../src/engine/weight-supply";
import { Gpu } from "../../src/gpu/device";
import { type Engine, type EngineEvent, type EngineOptions, type LoadOptions, loadEngine } from "../../src/index";
import { matmulTile } from "../../src/kernels/matmul-tile";
import { describeModel } from "../../src/repository/model-description";
import { ModelRecipe } from "../../src/stages/model-recipe";
import { wholePlan } from "../../src/stages/plan";
import { type KnownProduct, knownProducts, type RejectedVariant, rejectedVariants, testVariants } from "../../src/tuning/self-test";
import { hardwareGpu, miscompile, replaceMethod, watchBuffers } from "../support/device-faults";
import { expectGolden } from "../support/expect-close";
import { expectLlmError } from "../support/expect-llm-error";
import { runKernel, unwritten } from "../support/kernel-test";
import { stepState } from "../support/step-state";
import { getTestGpu } from "../support/test-gpu";
import { evaluateAll, readGolden, testModelFiles } from "../support/test-model";

const CASE = "tests/golden/llama-gqa";
const OPTIONS = { needsTokenizer: false, contextLength: 128, chunkRows: 72, kvFormat: "f32", defaultLimits: true } as const;
const SUBGROUPS = { subgroups: { min: 4, max: 128 }, subgroupMatrix: false };

let gpu: Gpu;
beforeAll(async () => {
  gpu = (await getTestGpu()).share();
});
afterAll(() => gpu.dispose());

function knownProduct(name: string): KnownProduct {
  const products = knownProducts({ ...SUBGROUPS, subgroupMatrix: true }, { dp4a: true });
  return present(
    products.find((each) => each.name === name),
    name,
  );
}

describe("the self-test", () => {
  test("rejects no variant of this adapter, and leaks no memory", async (context) => {
    context.skip(!gpu.features.subgroups, "the adapter has no subgroups");
    expect(await testVariants(gpu, knownProducts(gpu.features))).toEqual([]);
    expect(gpu.memory().bufferCount).toBe(0);
  });

  test("accepts 8-bit dot products here, and rejects results that are 2e-3 off", async () => {
    const product = knownProduct("matmul-dp4a after quantise-rows");
    expect(await testVariants(gpu, [product])).toEqual([]);
    const largest = Math.max(...product.expected.map(Math.abs));
    const expected = product.expected.map((value, index) => (index === 99 ? value + 2e-3 * largest : value));
    expect(await testVariants(gpu, [{ ...product, expected }])).toMatchObject([{ variant: "dp4a" }]);
  });

  test.for<[string, RegExp, string]>([
    ["four columns of a group are skipped", /dot4I8Packed\(x1\.w, w1\.w\)/g, "0"],
    ["bytes lose their sign", /pack4xI8\(codes\)/g, "pack4xI8(abs(codes))"],
    ["the minimums are skipped", /sums\[i\] \+= x_scale\.y \* scale\[1\];/g, ""],
  ])("rejects 8-bit dot products if %s", async ([, pattern, replacement]) => {
    const mend = miscompile(gpu.device, pattern, replacement);
    const rejected = await testVariants(gpu, [knownProduct("matmul-dp4a after quantise-rows")]).finally(mend);
    expect(rejected).toEqual([{ variant: "dp4a", reason: expect.stringContaining("matmul-dp4a"), error: expect.any(Number) }]);
    expect(rejected[0]?.error).toBeGreaterThan(1e-2);
  });

  test("does not test a software adapter", async (context) => {
    context.skip(!gpu.features.software, "the adapter is hardware");
    const mend = replaceMethod(gpu.device, "createComputePipelineAsync", () => () => Promise.reject(new Error("nothing is to compile")));
    expect(await rejectedVariants(gpu).finally(mend)).toEqual([]);
  });

  test("tests no variant whose features the device lacks", () => {
    const variants = (features: Parameters<typeof knownProducts>[0]) => knownProducts(features).map(({ variant }) => variant);
    expect(variants({ subgroups: null, subgroupMatrix: false })).toEqual([]);
    expect(new Set(variants(SUBGROUPS))).toEqual(new Set(["subgroups"]));
    expect(variants({ subgroups: null, subgroupMatrix: true })).toEqual(["subgroup-matrix"]);
  });

  test("tests 8-bit dot products if the engine uses them", () => {
    const products = knownProducts({ subgroups: null, subgroupMatrix: false }, { dp4a: true });
    expect(products.map(({ variant }) => variant)).toEqual(["dp4a"]);
  });

  test("expects from matrix units what the plain kernel computes", async () => {
    const { inputs, expected, rows: xRows } = knownProduct("matmul-subgroup-matrix");
    const [rows, columns] = [expected.length / xRows, present(inputs.x, "x").length / xRows];
    const options = { format: "q4m", rows, columns, bias: false, epilogue: "store", yStride: rows, yOffset: 0, tile: "direct" } as const;
    const state = stepState({ position: 0, rows: xRows });
    const shape = { rows: xRows, positions: xRows };
    const { y } = await runKernel(gpu, matmulTile, options, shape, { state, ...inputs }, { y: unwritten(expected.length) });
    expect(y).toEqual(expected);
  });

  test.for<[string, string, RegExp, string]>([
    ["a shuffle returns the lane's own value", "matmul-vector with 32 lanes a row", /subgroupShuffleXor\(sums\[i\], mask\)/g, "sums[i]"],
    ["half of a row's subgroups are skipped", "matmul-vector with 64 lanes a row", /let count = stride;/g, "let count = stride / 2u;"],
    ["subgroupAdd returns the thread's own value", "rms-norm", /subgroupAdd\(value\)/g, "value"],
    ["a sum is NaN", "rms-norm", /subgroupAdd\(value\)/g, "sqrt(-1.0 - abs(subgroupAdd(value)))"],
  ])("rejects subgroups if %s", async ([, name, pattern, replacement], context) => {
    context.skip(!gpu.features.subgroups, "the adapter has no subgroups");
    const mend = miscompile(gpu.device, pattern, replacement);
    const rejected = await testVariants(gpu, [knownProduct(name)]).finally(mend);
    expect(rejected).toEqual([{ variant: "subgroups", reason: expect.stringContaining(name), error: expect.any(Number) }]);
    expect(rejected[0]?.error).toBeGreaterThan(1e-2);
    expect(gpu.memory().bufferCount).toBe(0);
  });

  test("rejects a variant that does not compile and quotes the compiler", async () => {
    const mend = replaceMethod(gpu.device, "createComputePipelineAsync", (compile) => async (descriptor) => {
      if (descriptor.label?.startsWith("matmul")) throw new Error("the driver has no such thing");
      return compile(descriptor);
    });
    const products = ["matmul-vector with 32 lanes a row", "matmul-vector with 64 lanes a row"].map(knownProduct);
    const rejected = await testVariants(gpu, products).finally(mend);
    const reason = expect.stringMatching(/matmul-vector.*does not compile: .*the driver has no such thing/);
    expect(rejected).toEqual([{ variant: "subgroups", reason, error: Number.POSITIVE_INFINITY }]);
  });

  test("rejects only the variant that fails", async (context) => {
    context.skip(!gpu.features.subgroups, "the adapter has no subgroups");
    const right = knownProduct("rms-norm");
    const wrong: KnownProduct = {
      ...right,
      variant: "subgroup-matrix",
      expected: right.expected.map((value, index) => (index === 99 ? value + 1 : value)),
    };
    const rejected = await testVariants(gpu, [right, wrong]);
    expect(rejected.map(({ variant }) => variant)).toEqual(["subgroup-matrix"]);
  });
});

describe("a self-test that is interrupted", () => {
  /** Calls `act` at the first submit of a self-test and returns how that ends. */
  async function interrupted(user: Gpu, act: () => void): Promise<unknown> {
    const mend = replaceMethod(user.device.queue, "submit", (submit: GPUQueue["submit"]) => (buffers) => {
      submit(buffers);
      act();
    });
    const outcome: unknown = await testVariants(user, [knownProduct("rms-norm")]).catch((error: unknown) => error);
    mend();
    return outcome;
  }

  test("by the device's loss fails with it and rejects nothing", async () => {
    const lost = await Gpu.request({ defaultLimits: true });
    expect(await interrupted(lost, () => lost.device.destroy())).toMatchObject({ code: "device-lost" });
    await expectLlmError(testVariants(lost, [knownProduct("rms-norm")]), "device-lost");
    expect(lost.memory().bufferCount).toBe(0);
    lost.dispose();
  });

  test("by the loss of a device that then compiles nothing fails with the loss", async () => {
    const lost = await Gpu.request({ defaultLimits: true });
    replaceMethod(lost.device, "createComputePipelineAsync", () => async () => {
      lost.device.destroy();
      throw new Error("the device is gone");
    });
    await expectLlmError(testVariants(lost, [knownProduct("rms-norm")]), "device-lost");
    lost.dispose();
  });

  test("by its engine's disposal leaks no memory and says nothing about the device: the next engine's self-test passes", async () => {
    const whole = await Gpu.request({ gpu: hardwareGpu(), defaultLimits: true });
    const user = whole.share();
    const left = watchBuffers(whole.device);
    expect(await interrupted(user, () => user.dispose())).toBeInstanceOf(Error);
    expect(left.takeLabels()).toEqual([]);
    left.stop();
    expect(await rejectedVariants(whole)).toEqual([]);
    whole.dispose();
  });
});

describe("an engine on a device", () => {
  const engines: (Engine | EngineCore)[] = [];
  afterAll(() => {
    for (const engine of engines) engine.dispose();
  });

  /** An engine without weights, and the variants that were rejected. */
  async function createCore(user: Gpu, options: EngineOptions = {}): Promise<{ core: EngineCore; rejected: RejectedVariant[] }> {
    const { config, directory } = await describeModel(testModelFiles(CASE), { needsTokenizer: false });
    const rejected: RejectedVariant[] = [];
    const onVariantRejected = (each: RejectedVariant) => rejected.push(each);
    const supply = new WeightSupply(new ModelRecipe(config, directory, {}));
    const source = { plan: wholePlan(config), identity: { weights: CASE, tokenizer: null, isStable: true }, supply, onVariantRejected };
    const core = await EngineCore.create(user, config, source, { contextLength: 128, chunkRows: 72, vectorRows: 1, ...options });
    engines.push(core);
    return { core, rejected };
  }

  test("that passes uses subgroups, and uses no more memory than an engine without a self-test", async (context) => {
    context.skip(!gpu.features.subgroups || !gpu.features.software, "the adapter has no subgroups, or is tested in any case");
    const { core, rejected } = await createCore(await Gpu.request({ gpu: hardwareGpu(), defaultLimits: true }));
    expect([rejected, core.model.context.subgroups]).toEqual([[], true]);
    const { core: untested } = await createCore(gpu.share());
    expect(core.memory()).toEqual(untested.memory());
  });

  test("that fails reports it for every device it moves to, also one that cannot compile subgroups, and keeps one sampler", async (context) => {
    context.skip(!gpu.features.subgroups, "the adapter has no subgroups");
    const wrong = hardwareGpu((device) => miscompile(device, /subgroupAdd\(/g, "2.0 * subgroupAdd("));
    const { core, rejected } = await createCore(await Gpu.request({ gpu: wrong, defaultLimits: true }));
    expect([rejected.length, core.model.context.subgroups]).toEqual([1, false]);
    const { core: untested } = await createCore(gpu.share());
    expect(core.memory()).toEqual(untested.memory());
    const refusing = hardwareGpu((device) => {
      replaceMethod(device, "createComputePipelineAsync", (compile) => (descriptor) => {
        if (descriptor.label?.includes('"SUBGROUPS",true')) return Promise.reject(new Error("the driver has no such thing"));
        return compile(descriptor);
      });
    });
    const another = await Gpu.request({ gpu: refusing, defaultLimits: true });
    const shape = { config: core.config, plan: core.plan, root: CASE, options: resolveEngineOptions({ contextLength: 128 }, core.config) };
    await createRuntime(another, { ...shape, onVariantRejected: (each) => rejected.push(each) }, 0);
    another.dispose();
    expect(rejected).toMatchObject([{ variant: "subgroups" }, { variant: "subgroups", error: Number.POSITIVE_INFINITY }]);
  });

  test("with wrong 8-bit dot products does not use them, and engines that do not ask for them report nothing", async () => {
    const wrong = hardwareGpu((device) => miscompile(device, /dot4I8Packed\(x0\.x/g, "dot4I8Packed(x0.y"));
    const device = await Gpu.request({ gpu: wrong, defaultLimits: true, without: ["subgroups", "subgroup-matrix"] });
    const { rejected } = await createCore(device);
    const { core, rejected: asked } = await createCore(device.share(), { prefillActivations: "int8" });
    const { rejected: again } = await createCore(device.share());
    expect(core.model.context.dp4a).toBe(false);
    expect([rejected, again]).toEqual([[], []]);
    expect(asked).toMatchObject([{ variant: "dp4a" }]);
    const { core: right } = await createCore(gpu.share(), { prefillActivations: "int8" });
    expect(right.model.context.dp4a).toBe(!gpu.features.subgroupMatrix);
  });

  /** The engine, its "variant-rejected" events and the compiled kernels with their defines. */
  async function load(options: LoadOptions, onDevice?: (device: GPUDevice) => void) {
    const rejected: EngineEvent[] = [];
    const kernels: string[] = [];
    const watch = (device: GPUDevice) => {
      replaceMethod(device, "createComputePipelineAsync", (compile) => (descriptor) => {
        kernels.push(descriptor.label ?? "");
        return compile(descriptor);
      });
      onDevice?.(device);
    };
    const onEvent = (event: EngineEvent) => {
      if (event.type === "variant-rejected") rejected.push(event);
    };
    const engine = await loadEngine(testModelFiles(CASE), { ...OPTIONS, gpu: hardwareGpu(watch), ...options, onEvent });
    engines.push(engine);
    return { engine, rejected, kernels };
  }

  test("whose load ends during the self-test reports why, and rejects no variant", async () => {
    const enough = new Error("enough");
    for (const how of ["aborted", "lost"]) {
      const abort = new AbortController();
      const rejected: EngineEvent[] = [];
      const end = (device: GPUDevice) => (how === "lost" ? device.destroy() : abort.abort(enough));
      const watched = hardwareGpu((device) => {
        replaceMethod(device, "createBuffer", (create: GPUDevice["createBuffer"]) => (descriptor) => {
          if (descriptor.label === "self-test y") end(device);
          return create(descriptor);
        });
        replaceMethod(device, "createComputePipelineAsync", (compile) => (descriptor) => {
          if (descriptor.label?.startsWith("rms-norm")) return compile(descriptor);
          return Promise.reject(new Error("only rms-norm is compiled, to save time"));
        });
      });
      const onEvent = (event: EngineEvent) => {
        if (event.type === "variant-rejected") rejected.push(event);
      };
      const loading = loadEngine(testModelFiles(CASE), { ...OPTIONS, gpu: watched, signal: abort.signal, onEvent });
      if (how === "lost") await expectLlmError(loading, "device-lost");
      else await expect(loading).rejects.toBe(enough);
      await new Promise((resolve) => setTimeout(resolve, 200));
      expect(rejected).toEqual([]);
    }
  });

  test("with wrong matrix units does not use them, and reports it", async (context) => {
    const { features } = await getTestGpu({});
    context.skip(!features.subgroupMatrix, "the adapter has no subgroup matrices");
    const options = { defaultLimits: false, quantise: "q8" } as const;
    const { rejected, kernels } = await load(options, (each) => {
      miscompile(each, /MultiplyAccumulate\(left1/g, "MultiplyAccumulate(left0");
    });
    expect(rejected).toMatchObject([{ variant: "subgroup-matrix" }]);
    expect(kernels.filter((name) => name.startsWith("matmul-subgroup-matrix")).length).toBe(1); // the self-test's
  });

  test("with wrong subgroups does not use them, reports it and computes the reference logits; so does the next engine", async (context) => {
    context.skip(!gpu.features.subgroups, "the adapter has no subgroups");
    const golden = await readGolden(CASE);
    const { engine, rejected, kernels } = await load({ without: ["subgroup-matrix"] }, (device) => {
      miscompile(device, /subgroup(Add|Max|Min|ShuffleXor)\(/g, "0.5 * subgroup$1(");
    });
    const told = [
      { type: "variant-rejected", variant: "subgroups", reason: expect.stringContaining("matmul-vector"), error: expect.any(Number) },
    ];
    expect(rejected).toEqual(told);
    const compiledBefore = kernels.length;
    const next = await load({ shareDeviceWith: engine });
    expect(next.rejected).toEqual(told);
    expect(kernels.slice(compiledBefore)).toEqual([]);
    for (const chunk of [72, 1]) {
      const ids = golden.ids.slice(0, chunk === 1 ? 8 : chunk);
      const { logits } = await evaluateAll(next.engine, { ids, chunk });
      expectGolden("llama-gqa without subgroups", logits, golden.logits.subarray(0, logits.length), 1e-3);
    }
    expect((await next.engine.generateIds(golden.ids, { temperature: 0, maxTokens: 8 })).ids).toEqual(golden.greedy.slice(0, 8));
  });
});
