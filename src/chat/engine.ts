// The engine as an application holds it: chats, completions, evaluation, memory, disposal.
import type { DeliverOptions, Delivery, StageInfo } from "../engine/delivery";
import type { EngineCore, EngineMemory } from "../engine/engine-core";
import { LlmError } from "../errors";
import type { Gpu, GpuOptions } from "../gpu/device";
import type { StagePlan } from "../stages/plan";
import type { Evaluation, EvaluationRequest } from "../steps/evaluate";
import type { GenerationResult } from "../steps/generation";
import { resolveSampling, type SamplingSettings } from "../steps/sampling-settings";
import type { Tokenizer } from "../tokens/tokenizer";
import type { ModelConfig } from "../weights/model-config";
import type { Answer } from "./answer";
import { type AnswerOptions, startAnswer } from "./answer-run";
import { Chat, type ChatEvent, type ChatOptions } from "./chat";
import { ChatSnapshot } from "./chat-snapshot";

export interface IdGenerationOptions extends SamplingSettings {
  readonly maxTokens: number;
  /** Ids that end it. */
  readonly stopIds?: readonly number[];
  readonly signal?: AbortSignal;
}

export interface IdGeneration extends GenerationResult {
  readonly ids: readonly number[];
  /** Of each id, the index of the stage that gave it. */
  readonly stages: readonly number[];
}

/** An upgrade in the middle of an evaluation. */
export interface EvaluationUpgrade extends Omit<DeliverOptions, "onPrepared"> {
  /** How many ids are fed before it. */
  readonly at: number;
}

export class Engine implements Disposable {
  readonly #core: EngineCore;
  readonly #tokenizer: Tokenizer | null;
  readonly #delivery: Delivery;
  readonly #onEvent: (event: ChatEvent) => void;

  constructor(core: EngineCore, tokenizer: Tokenizer | null, delivery: Delivery, onEvent: (event: ChatEvent) => void = () => undefined) {
    this.#core = core;
    this.#onEvent = onEvent;
    this.#tokenizer = tokenizer;
    this.#delivery = delivery;
  }

  get config(): ModelConfig {
    return this.#core.config;
  }

  /** Positions that a conversation can have. */
  get contextLength(): number {
    return this.#core.contextLength;
  }

  get adapterName(): string {
    return this.#core.gpu.adapterName;
  }

  /** The adapter computes on the CPU: everything works, a hundred times slower. */
  get isSoftware(): boolean {
    return this.#core.gpu.features.software;
  }

  /** @throws LlmError "bad-tokenizer" where the engine was loaded without one. */
  get tokenizer(): Tokenizer {
    if (!this.#tokenizer) throw new LlmError("bad-tokenizer", "This engine was loaded without a tokenizer (needsTokenizer: false).");
    return this.#tokenizer;
  }

  /** Resolves when all stages asked for have landed; rejects when one failed (see `resumeDelivery`). */
  get complete(): Promise<void> {
    return this.#delivery.complete;
  }

  /** The stage that answers. */
  get stage(): StageInfo {
    return this.#delivery.stageInfo(this.#core.stage);
  }

  /** In their order; the last one is the whole model. */
  get stages(): readonly StageInfo[] {
    return this.plan.stages.map((_, index) => this.#delivery.stageInfo(index));
  }

  /** What arrives with each stage. */
  get plan(): StagePlan {
    return this.#core.plan;
  }

  /**
   * Loads the stages up to `stage` (an index; the last unless given) and resolves when it answers. Conversations go on meanwhile, and
   * keep their K/V below what changed.
   *
   * @throws LlmError of the sources or the device; the signal's reason. The stage that answered by then goes on.
   */
  upgrade(options: DeliverOptions = {}): Promise<void> {
    return this.#delivery.deliver(options);
  }

  /** Asks for no more bytes of later stages until `resumeDelivery`: on a metered link, say. */
  pauseDelivery(): void {
    this.#delivery.pause();
  }

  /**
   * Goes on loading later stages: after a pause, after a failure, or for the first time where delivery is manual. It goes as far as was asked
   * with `upgrade`; to the last one where nothing was.
   */
  resumeDelivery(): void {
    this.#delivery.resume();
  }

  /** A conversation in the model's own template. Several share the engine; their answers take turns. @throws LlmError "bad-tokenizer" without a template. */
  createChat(options: ChatOptions = {}): Chat {
    return new Chat(this.#core, this.tokenizer, this.#onEvent, options);
  }

  /**
   * A chat that goes on from a snapshot. K/V that the same weights wrote comes back by copying; the rest is computed with the next answer, and
   * `chat-restored` says which.
   *
   * @throws LlmError "bad-tokenizer" without a template, "bad-file" or "bytes-truncated" for bytes that are no snapshot, "device-lost", "disposed".
   */
  async restoreChat(snapshot: ChatSnapshot | Uint8Array<ArrayBuffer>): Promise<Chat> {
    const rested = snapshot instanceof ChatSnapshot ? snapshot : await ChatSnapshot.fromBytes(snapshot);
    const chat = this.createChat();
    try {
      const { layers, restoredBytes } = await chat.restore(rested);
      const restoredPositions = Math.max(0, ...layers.map(({ positions }) => positions));
      this.#onEvent({ type: "chat-restored", tokens: rested.kv.ids.length, restoredPositions, restoredBytes, layers });
      return chat;
    } catch (error) {
      chat.dispose();
      throw error;
    }
  }

  /** Continues a text as it is, without a template. */
  completeText(prompt: string, options: AnswerOptions = {}): Answer {
    const sequence = this.#core.createSequence();
    const { tokenizer } = this;
    const prepare = () => sequence.append(tokenizer.encode(prompt));
    const answer = startAnswer(this.#core, tokenizer, sequence, options, { prepare });
    const release = () => this.#core.releaseSequence(sequence);
    answer.finished.then(release, release);
    return answer;
  }

  /** Continues a list of ids and gives the new ones, the stop token included: for evaluation, without a tokenizer's help. */
  async generateIds(ids: readonly number[], options: IdGenerationOptions): Promise<IdGeneration> {
    const { signal, maxTokens, stopIds = [] } = options;
    const sampling = resolveSampling(options, this.config.vocabSize);
    const sequence = this.#core.createSequence();
    sequence.append(ids);
    try {
      const stages: number[] = [];
      const onToken = (_: number, stage: number) => stages.push(stage) > 0;
      const result = await this.#core.takeTurn((generate) => generate({ sequence, sampling, stopIds, maxTokens, onToken }), signal);
      return { ...result, ids: sequence.tokens.slice(ids.length), stages };
    } finally {
      await this.#core.releaseSequence(sequence);
    }
  }

  /**
   * The logits of every position of a list of ids; on the way the engine may be upgraded, as it would be in a chat.
   *
   * @throws LlmError "bad-request" when they do not fit the context; what `upgrade` throws.
   */
  evaluate(request: EvaluationRequest, upgrades: readonly EvaluationUpgrade[] = []): Promise<Evaluation> {
    const stops = upgrades.map(({ at, ...options }) => ({ position: at, act: () => this.#prepareUpgrade(options) }));
    return this.#core.evaluate(request, stops);
  }

  /** For `LoadOptions.shareDeviceWith`. @internal */
  shareDevice(options: Pick<GpuOptions, "maxBindingBytes"> = {}): Gpu {
    return this.#core.gpu.share(options);
  }

  /** Bytes that the engine holds on the GPU. */
  memory(): EngineMemory {
    return this.#core.memory();
  }

  /** Frees everything on the GPU; answers under way fail with "disposed". */
  dispose(): void {
    this.#delivery.end(new LlmError("disposed", "This engine was disposed while later stages were loading."));
    this.#core.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Resolves when the run that asked has only to rebuild K/V and to take over. */
  #prepareUpgrade(options: DeliverOptions): Promise<void> {
    const { stage = this.stages.length - 1 } = options;
    return new Promise((resolve, reject) => {
      const onPrepared = ({ index }: StageInfo) => {
        if (index === stage) resolve();
      };
      this.#delivery.deliver({ ...options, onPrepared }).then(resolve, reject);
    });
  }
}
