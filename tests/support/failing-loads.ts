// Loads of a tiny model that are meant to fail, all on one device: what they leave there is seen, and the next load must work.
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import type { Gpu } from "../../src/gpu/device";
import { type Engine, type LlmErrorCode, type LoadOptions, loadEngine, type ModelLocation } from "../../src/index";
import { watchBuffers } from "./device-faults";
import { expectLlmError } from "./expect-llm-error";
import { goldenContents, memoryFiles } from "./memory-files";
import { type Golden, loadTestEngine, readGolden } from "./test-model";

const CASE = "tests/golden/llama-gqa";
const OPTIONS: LoadOptions = { needsTokenizer: false, contextLength: 128, chunkRows: 72, cache: false };

export class FailingLoads {
  #golden: Golden | null = null;
  #contents: Awaited<ReturnType<typeof goldenContents>> | null = null;
  #first: Engine | null = null;
  #gpu: Gpu | null = null;
  #buffers: ReturnType<typeof watchBuffers> | null = null;

  /** For the whole file: after each of its tests nothing may be left on the device. */
  constructor() {
    beforeAll(async () => {
      this.#golden = await readGolden(CASE);
      this.#contents = await goldenContents();
      this.#first = await loadTestEngine(CASE, OPTIONS);
      this.#gpu = this.#first.shareDevice();
      this.#buffers = watchBuffers(this.#gpu.device);
    });
    afterEach(() => this.expectNothingLeft());
    afterAll(() => {
      this.#buffers?.stop();
      this.#gpu?.dispose();
      this.#first?.dispose();
    });
  }

  get contents() {
    return ready(this.#contents);
  }

  get device(): GPUDevice {
    return ready(this.#gpu).device;
  }

  load(location: ModelLocation, options: LoadOptions = {}): Promise<Engine> {
    return loadEngine(location, { ...OPTIONS, shareDeviceWith: ready(this.#first), ...options });
  }

  loadIntact(options?: LoadOptions): Promise<Engine> {
    return this.load(memoryFiles(this.contents), options);
  }

  expectNothingLeft(): void {
    expect(ready(this.#buffers).takeLabels()).toEqual([]);
  }

  /** Fails unless the engine computes what the golden case holds. Disposes of it. */
  async expectWorks(engine: Engine): Promise<void> {
    try {
      const { ids, greedy } = ready(this.#golden);
      const answer = await engine.generateIds(ids, { temperature: 0, maxTokens: 3 });
      expect(answer.ids).toEqual(greedy.slice(0, 3));
    } finally {
      engine.dispose();
    }
  }

  /** Fails unless the load fails so and leaves nothing behind, and one of the intact model then works. */
  async expectFailure(failing: Promise<Engine>, code: LlmErrorCode, ...words: readonly string[]): Promise<void> {
    await expectLlmError(failing, code, ...words);
    this.expectNothingLeft();
    await this.expectWorks(await this.loadIntact());
  }
}

function ready<T>(value: T | null): T {
  if (value === null) throw new Error("FailingLoads is ready when the file's tests run");
  return value;
}
