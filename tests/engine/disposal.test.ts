// An engine that is disposed of, whatever it is at: runs fail with "disposed", no buffer lives on, the device reports no error.
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { EngineCore } from "../../src/engine/engine-core";
import type { Gpu } from "../../src/gpu/device";
import { replaceMethod, watchBuffers } from "../support/device-faults";
import { expectLlmError } from "../support/expect-llm-error";
import { continueSequence, loadTestCore } from "../support/test-core";
import { type Golden, readGolden, sharingEngine } from "../support/test-model";

const CASE = "tests/golden/llama-gqa";

let golden: Golden;
let gpu: Gpu;
let buffers: ReturnType<typeof watchBuffers>;

beforeAll(async () => {
  golden = await readGolden(CASE);
  gpu = (await sharingEngine()).shareDevice();
  buffers = watchBuffers(gpu.device);
});
afterAll(() => {
  buffers.stop();
  gpu.dispose();
});
afterEach(() => expect(buffers.takeLabels()).toEqual([]));

function load(): Promise<EngineCore> {
  return loadTestCore(CASE, { contextLength: 128, chunkRows: 16 });
}

function run(core: EngineCore, onToken = () => true): Promise<unknown> {
  const sequence = core.createSequence();
  sequence.append(golden.ids);
  return continueSequence(core, sequence, { maxTokens: 24, onToken });
}

test("loaded and disposed of again and again, it holds the same each time and leaves nothing", async () => {
  const counts = [];
  for (let cycle = 0; cycle < 3; cycle++) {
    const core = await load();
    await run(core);
    const { total, bufferCount } = core.memory();
    counts.push({ total, bufferCount });
    core.dispose();
    core.dispose();
    expect(core.memory()).toMatchObject({ total: 0, bufferCount: 0 });
    expect(buffers.takeLabels()).toEqual([]);
  }
  expect(counts).toEqual(Array(3).fill(counts[0]));
});

test("a run in prefill ends, and those that wait", async () => {
  const core = await load();
  let chunks = 0;
  const restore = replaceMethod(gpu.device.queue, "onSubmittedWorkDone", (done) => () => {
    if (++chunks === 3) core.dispose();
    return done();
  });
  const runs = [run(core), run(core), core.evaluate({ ids: golden.ids, onLogits: () => undefined })];
  for (const each of runs) await expectLlmError(each, "disposed", "loadEngine");
  restore();
});

test("a run in decode ends", async () => {
  const core = await load();
  let tokens = 0;
  const onToken = () => {
    if (++tokens === 3) core.dispose();
    return true;
  };
  await expectLlmError(run(core, onToken), "disposed");
  expect(tokens).toBe(3);
});

test.each([1, 16])("an evaluation in chunks of %i ends, also while a chunk is read back", async (chunk) => {
  const core = await load();
  const evaluation = core.evaluate({ ids: golden.ids, chunk, hidden: true, onLogits: () => setTimeout(() => core.dispose()) });
  await expectLlmError(evaluation, "disposed");
});

test("what is asked of it afterwards is refused", async () => {
  const core = await load();
  core.dispose();
  expect(() => core.createSequence()).toThrow("disposed");
  await expectLlmError(core.evaluate({ ids: [1], onLogits: () => undefined }), "disposed");
});
