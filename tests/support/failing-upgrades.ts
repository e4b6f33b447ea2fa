// Upgrades of a tiny model that are meant to fail: the stage that answers must be as if they had never begun, and the next one must land.
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import type { Gpu } from "../../src/gpu/device";
import type { Engine, EngineEvent, EngineMemory, Evaluation, EvaluationRequest, LoadOptions, StageEvent } from "../../src/index";
import { watchBuffers } from "./device-faults";
import { FaultyFiles } from "./faulty-files";
import { largestDifference, type StageContents } from "./stage-plans";
import { LIMIT, loadedThere, loadStagedFiles } from "./staged-engine";
import { evaluateAll, readGolden, sharingEngine } from "./test-model";

export const FAILING_CASE = "llama-gqa";

/** An engine, or what is under its face. */
interface Evaluating {
  readonly config: Engine["config"];
  evaluate(request: EvaluationRequest): Promise<Evaluation>;
  memory(): EngineMemory;
}

/** What nobody may see change: the logits to the bit, and what the device holds. */
export interface Sight {
  readonly memory: EngineMemory;
  readonly logitBits: Uint32Array;
}

export interface Loaded {
  readonly engine: Engine;
  readonly files: FaultyFiles;
  readonly events: EngineEvent[];
  /** Called with each event, after it was noted. */
  onEvent: (event: EngineEvent) => void;
}

export class FailingUpgrades {
  readonly stages: readonly StageContents[];
  #ids: readonly number[] = [];
  #whole: Float32Array | null = null;
  #gpu: Gpu | null = null;

  /** For the whole file: after each of its tests nothing may be left on the device. */
  constructor(stages: readonly StageContents[]) {
    this.stages = stages;
    let buffers: ReturnType<typeof watchBuffers> | undefined;
    beforeAll(async () => {
      // Two full pages and a part of one.
      this.#ids = (await readGolden(`tests/golden/${FAILING_CASE}`)).ids.slice(0, 40);
      this.#whole = await loadedThere(FAILING_CASE, stages, stages.length - 1, this.#ids, this.#ids.length);
      this.#gpu = (await sharingEngine()).shareDevice();
      buffers = watchBuffers(this.#gpu.device);
    });
    afterEach(() => expect(buffers?.takeLabels() ?? []).toEqual([]));
    afterAll(() => {
      buffers?.stop();
      this.#gpu?.dispose();
    });
  }

  get device(): GPUDevice {
    if (!this.#gpu) throw new Error("FailingUpgrades is ready when the file's tests run");
    return this.#gpu.device;
  }

  async withEngine(use: (loaded: Loaded) => Promise<void>, options: LoadOptions = {}): Promise<void> {
    const files = await FaultyFiles.of(FAILING_CASE);
    const events: EngineEvent[] = [];
    let loaded: Loaded | null = null;
    const onEvent = (event: EngineEvent) => {
      events.push(event);
      loaded?.onEvent(event);
    };
    const engine = await loadStagedFiles(files, this.stages, { ...options, onEvent });
    loaded = { engine, files, events, onEvent: () => undefined };
    try {
      await use(loaded);
    } finally {
      engine.dispose();
    }
  }

  async look(engine: Evaluating): Promise<Sight> {
    const memory = engine.memory();
    const { logits } = await evaluateAll(engine, { ids: this.#ids });
    return { memory, logitBits: new Uint32Array(logits.buffer) };
  }

  /** Fails unless the engine, moved on to the last stage, has the logits of one that is there from the start. */
  async expectLands(engine: Engine): Promise<void> {
    await engine.upgrade();
    expect(engine.stage.index).toBe(this.stages.length - 1);
    const { logits } = await evaluateAll(engine, { ids: this.#ids });
    expect(largestDifference(logits, this.#whole ?? new Float32Array())).toBeLessThanOrEqual(LIMIT);
  }
}

/** What `upgrade-failed` told: the stage and the error. */
export function failuresTold(events: readonly (EngineEvent | StageEvent)[]): readonly (readonly [number, unknown])[] {
  return events.flatMap((event) => (event.type === "upgrade-failed" ? [[event.stage.index, event.error] as const] : []));
}

/** What `promise` was rejected with. */
export async function reasonOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => {
      throw new Error("it succeeded");
    },
    (reason: unknown) => reason,
  );
}
