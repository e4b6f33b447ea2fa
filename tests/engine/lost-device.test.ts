// A graphics device that is lost, or never was: whoever waits for it hears so at once, nobody computes on nothing, and a new device works.
import { afterEach, describe, expect, test, vi } from "vitest";
import { present } from "../../src/assert";
import { Gpu } from "../../src/gpu/device";
import { KernelCache } from "../../src/gpu/kernel";
import { type Chat, type Engine, type EngineEvent, type LoadOptions, loadEngine } from "../../src/index";
import { rmsNorm } from "../../src/kernels/rms-norm";
import { RESIDUALS } from "../../src/kv/kv-cache";
import type { GroupSnapshot } from "../../src/kv/kv-snapshot";
import { replaceMethod } from "../support/device-faults";
import { expectLlmError } from "../support/expect-llm-error";
import { goldenContents, memoryFiles } from "../support/memory-files";
import { planFile } from "../support/stage-plans";
import { readGolden } from "../support/test-model";
import { SPECIAL_IDS, tinyChatFiles } from "../support/tiny-chat-model";

const OPTIONS: LoadOptions = { needsTokenizer: false, contextLength: 128, chunkRows: 72, defaultLimits: true };
const settled = () => new Promise((resolve) => setTimeout(resolve, 50));
const contents = await goldenContents();

/** WebGPU as it is here, and the last device that it gave. */
function watchedGpu(): { readonly gpu: GPU; readonly device: () => GPUDevice } {
  let device: GPUDevice | undefined;
  const requestAdapter = async (options?: GPURequestAdapterOptions) => {
    const adapter = await navigator.gpu.requestAdapter(options);
    if (!adapter) return null;
    replaceMethod(adapter, "requestDevice", (request: GPUAdapter["requestDevice"]) => async (descriptor) => {
      device = await request(descriptor);
      return device;
    });
    return adapter;
  };
  return {
    gpu: { requestAdapter } as GPU,
    device: () => {
      if (!device) throw new Error("no device was asked for");
      return device;
    },
  };
}

describe("a device that is lost while a model loads", () => {
  test.each(["load-start", "load-progress"])("ends the load at %s", async (moment) => {
    const { gpu, device } = watchedGpu();
    const events: EngineEvent[] = [];
    const onEvent = (event: EngineEvent) => {
      events.push(event);
      if (event.type === moment) device().destroy();
    };
    await expectLlmError(
      loadEngine(memoryFiles(contents), { ...OPTIONS, gpu, onEvent }),
      "device-lost",
      "was lost (destroyed)",
      "Load the engine again",
    );
    expect(events.filter(({ type }) => type === "device-lost" || type === "load-end")).toEqual([
      { type: "device-lost", reason: expect.stringMatching(/destroyed/) },
    ]);
  });

  test("ends it also while nothing comes from the server", async () => {
    const { gpu, device } = watchedGpu();
    const fetch = (_: unknown, init?: RequestInit) =>
      new Promise<Response>((_resolve, reject) => {
        device().destroy();
        init?.signal?.addEventListener("abort", () => reject(init.signal?.reason));
      });
    await expectLlmError(loadEngine("owner/name", { ...OPTIONS, gpu, fetch, cache: false }), "device-lost");
  });
});

describe("a device that is lost while an engine answers", () => {
  let engine: Engine | undefined;
  afterEach(() => engine?.dispose());

  // Compiles every kernel twice: no two devices share them.
  test("ends the answer and every later one, and a new engine works", { timeout: 400_000 }, async () => {
    const { ids, greedy } = await readGolden("tests/golden/llama-gqa");
    const { gpu, device } = watchedGpu();
    const events: EngineEvent[] = [];
    const onEvent = (event: EngineEvent) => events.push(event);
    engine = await loadEngine(memoryFiles(contents), { ...OPTIONS, gpu, recoverDevice: false, onEvent });
    const { queue } = device();
    let submits = 0;
    replaceMethod(queue, "submit", (submit: GPUQueue["submit"]) => (buffers) => {
      submit(buffers);
      if (++submits === 8) device().destroy();
    });
    await expectLlmError(engine.generateIds(ids, { temperature: 0, maxTokens: 40 }), "device-lost", "Load the engine again");
    expect(submits).toBeLessThan(20);
    await expectLlmError(engine.generateIds(ids, { temperature: 0, maxTokens: 1 }), "device-lost");
    await expectLlmError(engine.evaluate({ ids, onLogits: () => undefined }), "device-lost");
    await expectLlmError(loadEngine(memoryFiles(contents), { ...OPTIONS, shareDeviceWith: engine }), "device-lost");
    expect(events.filter(({ type }) => type === "device-lost").length).toBe(1);
    engine.dispose();
    events.length = 0;
    engine = await loadEngine(memoryFiles(contents), { ...OPTIONS, onEvent: (event) => events.push(event) });
    const answer = await engine.generateIds(ids, { temperature: 0, maxTokens: 3 });
    expect(answer.ids).toEqual(greedy.slice(0, 3));
    // A device that we end ourselves is not lost.
    engine.dispose();
    await settled();
    expect(events.filter(({ type }) => type === "device-lost")).toEqual([]);
    await expectLlmError(engine.evaluate({ ids, onLogits: () => undefined }), "disposed");
    await expectLlmError(loadEngine(memoryFiles(contents), { ...OPTIONS, shareDeviceWith: engine }), "disposed");
  });
});

describe("an engine whose device is lost", () => {
  // Two devices, and the kernels of each.
  test("comes back by itself, at its stage, with what an upgrade kept of a conversation, and answers on as if nothing had been", {
    timeout: 400_000,
  }, async () => {
    const { ids, hidden } = await readGolden("tests/golden/llama-gqa");
    const all = hidden.slice(1).map((_, layer) => layer);
    const plan = planFile([
      { layers: all.filter((layer) => layer !== 2 && layer !== 3) },
      { layers: all.filter((layer) => layer !== 3) },
      { layers: all },
    ]);
    const { gpu, device } = watchedGpu();
    const events: EngineEvent[] = [];
    const shape = { ...OPTIONS, kvFormat: "f32", pageSize: 16, poolLength: 256, prefixCache: false } as const;
    const options = { ...shape, needsTokenizer: true, plan, delivery: "manual" } as const;
    const files = await tinyChatFiles();
    const engine = await loadEngine(files, { ...options, gpu, onEvent: (event) => events.push(event) });
    const undisturbedTalk = await loadEngine(files, { ...options, shareDeviceWith: engine }).then(async (other) => {
      const chat = await talk(other);
      const texts = [await say(chat, "And then?"), await say(chat, "So")];
      other.dispose();
      return texts;
    });
    const chat = await talk(engine);
    const kept = (await chat.snapshot()).kv.groups[0];
    const generate = () => engine.generateIds(ids.slice(0, 20), { temperature: 1.5, seed: 7, frequencyPenalty: 0.5, maxTokens: 30 });
    const undisturbed = await generate();
    const { queue } = device();
    let submits = 0;
    replaceMethod(queue, "submit", (submit: GPUQueue["submit"]) => (buffers) => {
      submit(buffers);
      if (++submits === 12) device().destroy();
    });
    const disturbed = await generate();
    expect(submits).toBeLessThan(30);
    expect(disturbed.ids).toEqual(undisturbed.ids);
    expect(disturbed.generatedTokens).toBe(30);
    const told = events.filter(({ type }) => type.startsWith("device-")).map(({ type }) => type);
    expect(told).toEqual(["device-lost", "device-restored"]);
    expect(engine.stage.index).toBe(1);
    expectRestored((await chat.snapshot()).kv.groups, present(kept, "group"));
    expect([await say(chat, "And then?"), await say(chat, "So")]).toEqual(undisturbedTalk);
    await engine.upgrade();
    expect(engine.stage.index).toBe(2);
    // Nothing was on the new device to begin with; what has come to it since was told of, and all of it counts once.
    const loaded = events.flatMap((event) => (event.type === "load-progress" ? [event] : []));
    const bytes = loaded.map(({ loadedBytes }) => loadedBytes);
    expect(bytes.at(-1)).toBe(loaded[0]?.totalBytes);
    expect(bytes.filter((now, index) => now < (bytes[index - 1] ?? 0)).length).toBe(1);
    engine.dispose();
  });
});

/** A chat that an upgrade has met, and whose safety copy is done. */
async function talk(engine: Engine): Promise<Chat> {
  const chat = engine.createChat();
  await say(chat, "Tell me of the sea");
  const { scratch } = engine.memory();
  await engine.upgrade({ stage: 1 });
  await vi.waitFor(() => expect(engine.memory().scratch).toBe(scratch));
  return chat;
}

/** All full pages of what lies below the boundary are there, and nothing of what lies above: so none of it was computed. */
function expectRestored([front, ...above]: readonly GroupSnapshot[], kept: GroupSnapshot): void {
  expect(front?.length).toBe(16 * Math.floor(kept.length / 16));
  expect(front?.length).toBeGreaterThanOrEqual(16);
  expect(above.map(({ length }) => length)).toEqual([0, 0]);
  for (const [name, content] of front?.contents ?? []) {
    if (name !== RESIDUALS) expect(content, name).toEqual(kept.contents.get(name)?.subarray(0, content.length));
  }
}

/** Greedy, and never a control token. */
async function say(chat: Chat, message: string): Promise<string> {
  const logitBias = new Map(SPECIAL_IDS.map((id) => [id, Number.NEGATIVE_INFINITY]));
  const { text } = await chat.send(message, { temperature: 0, logitBias, maxTokens: 8 }).finished;
  return text;
}

test("all who share a lost device hear of it, and those who had left do not", async () => {
  const gpu = await Gpu.request({ defaultLimits: true });
  const heard: string[] = [];
  const [stays, left] = [gpu.share(), gpu.share()];
  for (const [name, user] of Object.entries({ gpu, stays, left })) void user.lost.then(() => heard.push(name));
  expect(await gpu.lossError()).toBeNull();
  left.dispose();
  gpu.device.destroy();
  await Promise.all([gpu.lost, stays.lost]);
  await settled();
  expect(heard).toEqual(["gpu", "stays"]);
  expect(await stays.lossError()).toMatchObject({ code: "device-lost" });
  stays.dispose();
  gpu.dispose();
});

test("a disposed user of a device makes no more buffers on it, and shares it with nobody", async () => {
  const gpu = await Gpu.request({ defaultLimits: true });
  const other = gpu.share();
  other.dispose();
  await expectLlmError((async () => other.createBuffer("late", 16, "scratch", GPUBufferUsage.STORAGE))(), "disposed");
  await expectLlmError((async () => other.share())(), "disposed");
  expect(gpu.createBuffer("in time", 16, "scratch", GPUBufferUsage.STORAGE).bytes).toBe(16);
  gpu.dispose();
});

test("a kernel that failed to compile is compiled anew when it is asked for again", async () => {
  const gpu = await Gpu.request({ defaultLimits: true });
  const kernels = new KernelCache(gpu);
  const compile = () => kernels.compile(rmsNorm, { columns: 64, epsilon: 1e-5, subgroups: false });
  const mend = replaceMethod(gpu.device, "createComputePipelineAsync", () => () => Promise.reject(new Error("the driver is busy")));
  await expectLlmError(compile(), "gpu-error", "rms-norm", "the driver is busy");
  mend();
  expect((await compile()).name).toBe("rms-norm");
  gpu.dispose();
});
