// Engines that nothing is done to, one for each stage of a phase's plan: what the soak's engine says must be what they say.
import type { Engine, EngineMemory, LoadOptions } from "../../src/index";
import { planFile, type StageContents } from "../support/stage-plans";
import { evaluateAll } from "../support/test-model";

/** Loads the phase's model with a plan as its file has it; options stand before the phase's. */
export type LoadReference = (plan: object, options?: LoadOptions) => Promise<Engine>;

/** Nothing is kept from one question to the next. */
const PLAIN: LoadOptions = { prefixCache: false, poolLength: 256 };

export class References {
  readonly #stages: readonly StageContents[];
  readonly #load: LoadReference;
  readonly #engines = new Map<number, Promise<Engine>>();
  #bare: Promise<readonly EngineMemory[]> | null = null;

  constructor(stages: readonly StageContents[], load: LoadReference) {
    this.#stages = stages;
    this.#load = load;
  }

  /** Logits of every position, computed by an engine that was loaded at this stage. */
  async logits(stage: number, ids: readonly number[]): Promise<{ readonly logits: Float32Array; readonly vocabSize: number }> {
    const engine = await this.#at(stage);
    const { logits } = await evaluateAll(engine, { ids });
    return { logits, vocabSize: engine.config.vocabSize };
  }

  /** What an engine without chats holds at this stage, in the order of the phase's plan. */
  async bareMemory(stage: number): Promise<EngineMemory> {
    this.#bare ??= this.#measure();
    const memory = (await this.#bare)[stage];
    if (!memory) throw new Error(`the plan has no stage ${stage}`);
    return memory;
  }

  /** The device is lost, or the phase over. What memory was measured stays true. */
  async disposeEngines(): Promise<void> {
    const engines = [...this.#engines.values()];
    this.#engines.clear();
    for (const engine of await Promise.allSettled(engines)) if (engine.status === "fulfilled") engine.value.dispose();
  }

  #at(stage: number): Promise<Engine> {
    const engine = this.#engines.get(stage) ?? this.#load(planFile(this.#stages.slice(stage)), PLAIN);
    this.#engines.set(stage, engine);
    return engine;
  }

  async #measure(): Promise<readonly EngineMemory[]> {
    const engine = await this.#load(planFile(this.#stages));
    try {
      const memories: EngineMemory[] = [];
      for (const stage of this.#stages.keys()) {
        if (stage > 0) await engine.upgrade({ stage });
        await engine.generateIds([3, 4, 5], { temperature: 0, maxTokens: 2 });
        memories.push(engine.memory());
      }
      return memories;
    } finally {
      engine.dispose();
    }
  }
}
