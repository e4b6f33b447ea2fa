// A model computes the same from a GGUF as from safetensors in shards, as Hugging Face's hub has them.
import { describe, expect, test } from "vitest";
import { type Engine, type LoadOptions, loadEngine } from "../../src/index";
import { describeModel, type ModelDescription } from "../../src/repository/model-description";
import { expectGolden } from "../support/expect-close";
import { type HubCheckpointOptions, hubCheckpoint } from "../support/hub-checkpoint";
import { longTest } from "../support/long-test";
import { memoryFiles } from "../support/memory-files";
import { needsFiles } from "../support/needed-files";
import { seededRandom } from "../support/random";
import { coreOf } from "../support/test-core";
import { evaluateAll, readGolden, sharingEngine, testModelFiles } from "../support/test-model";

const OPTIONS: LoadOptions = { needsTokenizer: false, contextLength: 128, chunkRows: 72, kvFormat: "f32" };
const EMBEDDED = testModelFiles("public/models/smollm2-crescendo-64m", "smollm2-crescendo-64m-q4_0.gguf");
// The embedded model's weights are products of a half and four bits: in f16 they lose up to 2^-12 of their size. That moves its logits,
// which spread by 3.5 (7 in the cut model), by 4e-3 in the mean and 2.1e-2 at most.
const F16_LIMIT = 4e-2;

async function loadFromHub(description: ModelDescription, options: HubCheckpointOptions): Promise<Engine> {
  const files = memoryFiles(await hubCheckpoint(description, options));
  return loadEngine(files, { ...OPTIONS, shareDeviceWith: await sharingEngine() });
}

/** The first layers of a GGUF's model, and the first rows of its embedding and head: a model of its own. */
function cutModel(description: ModelDescription, layerCount: number, vocabSize: number): ModelDescription {
  const tensors = new Map(
    [...description.directory.tensors].flatMap(([name, tensor]) => {
      if (Number(/^blk\.(\d+)\./.exec(name)?.[1] ?? 0) >= layerCount) return [];
      if (!/^(token_embd|output)\.weight$/.test(name)) return [[name, tensor]];
      const [rows = 1, columns = 1] = tensor.shape;
      const { start, end } = tensor.range;
      return [[name, { ...tensor, shape: [vocabSize, columns], range: { start, end: start + ((end - start) / rows) * vocabSize } }]];
    }),
  );
  return { ...description, config: { ...description.config, layerCount, vocabSize }, directory: { ...description.directory, tensors } };
}

/** The logits of the GGUF that `description` is of, and of its checkpoint on the hub. */
async function expectSameLogits(name: string, description: ModelDescription, options: HubCheckpointOptions, limit: number): Promise<void> {
  const ids = [...seededRandom("formats").ids(24, description.config.vocabSize)];
  const gguf = await coreOf(description, OPTIONS);
  using hub = await loadFromHub(description, options);
  try {
    expect(hub.config).toEqual(gguf.config);
    const expected = await evaluateAll(gguf, { ids });
    const actual = await evaluateAll(hub, { ids });
    expectGolden(name, actual.logits, expected.logits, limit);
  } finally {
    gguf.dispose();
  }
}

const needsGguf = await needsFiles("../shared/golden/llama-gqa/model.gguf");

describe("safetensors in shards give the logits of the GGUF", () => {
  test("of two layers of the embedded model, in f32 but for the order of sums, in f16 but for rounding", async () => {
    const cut = cutModel(await describeModel(EMBEDDED, { needsTokenizer: false }), 2, 512);
    await expectSameLogits("formats f32", cut, { type: "F32", shardCount: 3 }, 1e-3);
    await expectSameLogits("formats f16", cut, { type: "F16", shardCount: 3 }, F16_LIMIT);
  });

  longTest("of the embedded model, but for rounding to f16", async () => {
    const description = await describeModel(EMBEDDED, { needsTokenizer: false });
    await expectSameLogits("formats embedded f16", description, { type: "F16", shardCount: 3 }, F16_LIMIT);
  });

  test("of a model whose values bf16 holds", needsGguf, async () => {
    const description = await describeModel(testModelFiles("../shared/golden/llama-gqa", "model.gguf"), { needsTokenizer: false });
    const golden = await readGolden("tests/golden/llama-gqa");
    using engine = await loadFromHub(description, { type: "BF16", shardCount: 2 });
    const { logits } = await evaluateAll(engine, { ids: golden.ids });
    expectGolden("formats bf16", logits, golden.logits, 1e-3);
  });
});
