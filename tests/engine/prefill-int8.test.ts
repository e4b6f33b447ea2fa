// Prefill's products on bytes: near what those in f32 give, only where they are asked for, and only prefill's.
import { expect, test } from "vitest";
import type { EngineOptions, LoadOptions } from "../../src/index";
import { expectNmse, expectSame } from "../support/expect-close";
import { evaluateAll, type GOLDEN_CASES, loadTestEngine, readGolden } from "../support/test-model";

const OPTIONS: LoadOptions = { needsTokenizer: false, contextLength: 128, chunkRows: 72, vectorRows: 7, kvFormat: "f32" };
const INT8 = { prefillActivations: "int8" } as const;
type Quantised = Pick<LoadOptions, "quantise">;

async function logitsOf(name: (typeof GOLDEN_CASES)[number], options: EngineOptions & Quantised, chunk?: number) {
  const folder = `tests/golden/${name}`;
  const { ids } = await readGolden(folder);
  using engine = await loadTestEngine(folder, { ...OPTIONS, ...options });
  const { logits } = await evaluateAll(engine, chunk ? { ids: ids.slice(0, 2 * chunk), chunk } : { ids });
  return { logits, scratch: engine.memory().scratch };
}

// Root mean squares of the differences are 3.9 %, 1.5 % and 1.6 % of the logits', in these models of random weights. One kind of layer each: a norm
// before each product; one norm for two products; two norms before either.
test.each([
  ["llama-gqa", "q8", 0.05],
  ["falcon-mqa-parallel", "q4", 0.02],
  ["falcon-new-arch", "q8", 0.02],
] as const)("%s in %s gives nearly the logits of products in f32, and not the same", async (name, quantise, limit) => {
  const exact = await logitsOf(name, { quantise });
  const { logits } = await logitsOf(name, { quantise, ...INT8 });
  expectNmse(logits, exact.logits, limit ** 2);
  expect(logits).not.toEqual(exact.logits);
});

test("nobody has it without asking: logits are those of `float` bit for bit, and no memory is taken for bytes", async () => {
  const asDefault = await logitsOf("llama-gqa", { quantise: "q8" });
  const float = await logitsOf("llama-gqa", { quantise: "q8", prefillActivations: "float" });
  const int8 = await logitsOf("llama-gqa", { quantise: "q8", ...INT8 });
  expectSame(asDefault.logits, float.logits);
  expect(asDefault.scratch).toBe(float.scratch);
  expect(int8.scratch).toBeGreaterThan(float.scratch);
});

test.each<[string, Quantised, number | undefined]>([
  ["rows that go through decode's kernels, and the head", { quantise: "q8" }, 7],
  ["weights that are no bytes", {}, undefined],
])("%s are computed as without it, bit for bit", async (_, quantised, chunk) => {
  const { logits } = await logitsOf("llama-gqa", { ...quantised, ...INT8 }, chunk);
  expectSame(logits, (await logitsOf("llama-gqa", quantised, chunk)).logits);
});
