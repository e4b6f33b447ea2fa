// The engine as an application holds it: chats, completions, evaluation, memory, disposal.
import type { DeliverOptions, Delivery, StageInfo } from "../engine/delivery";
import type { EngineCore, EngineMemory } from "../engine/engine-core";
import { LlmError } from "../errors";
import type { Gpu, GpuOptions } from "../gpu/device";
import { checkStopIds } from "../kernels/sampling-params";
import type { StagePlan } from "../stages/plan";
import type { Evaluation, EvaluationRequest } from "../steps/evaluate";
import type { GenerationResult } from "../steps/generation-progress";
import { resolveSampling, type SamplingSettings } from "../steps/sampling-settings";
import type { Tokenizer } from "../tokens/tokenizer";
import type { ModelConfig } from "../weights/model-config";
import { Answer } from "./answer";
import { type AnswerOptions, AnswerRun } from "./answer-run";
import { Chat, type ChatEvent, type ChatOptions } from "./chat";
import { ChatSnapshot } from "./chat-snapshot";
import { checkOptions, checkText, type OptionForms, SAMPLING_FORMS } from "./request-checks";

export interface IdGenerationOptions extends SamplingSettings {
  /** Ids to generate, at most: 0 or more, or Infinity. */
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

const ID_GENERATION_FORMS: OptionForms<IdGenerationOptions> = { ...SAMPLING_FORMS, maxTokens: "whole", stopIds: "ids", signal: "signal" };

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

  /**
   * Resolves when all stages asked for have landed; rejects when one failed (see `resumeDelivery`). A promise taken before the device was lost may
   * reject although the engine recovers: read the property again after `device-restored`.
   */
  get complete(): Promise<void> {
    return this.#delivery.complete;
  }

  /** The stage that answers. */
  get stage(): StageInfo {
    return this.#delivery.stageInfo(this.#core.stage);
  }

  /** All stages of the plan, in order; the last one is the whole model. */
  get stages(): readonly StageInfo[] {
    return this.plan.stages.map((_, index) => this.#delivery.stageInfo(index));
  }

  /** What arrives with each stage. */
  get plan(): StagePlan {
    return this.#core.plan;
  }

  /**
   * Loads the stages up to `stage` (an index; default: the last) and resolves when that stage answers. Conversations go on meanwhile, and keep the
   * K/V of layers below the first one that changes.
   *
   * @throws LlmError of the sources or the device; the signal's reason. The stage that answered until then stays.
   */
  upgrade(options: DeliverOptions = {}): Promise<void> {
    return this.#delivery.deliver(options);
  }

  /** Stops downloading later stages until `resumeDelivery`: on a metered connection, say. */
  pauseDelivery(): void {
    this.#delivery.pause();
  }

  /**
   * Loads later stages again after a pause or a failure, or for the first time where delivery is manual: up to the stage that `upgrade` was called
   * with, or to the last one.
   */
  resumeDelivery(): void {
    this.#delivery.resume();
  }

  /**
   * A conversation in the model's own template. Several chats share the engine and its K/V pool; they answer at the same time.
   *
   * @throws LlmError "bad-tokenizer" without a tokenizer, "bad-request" for an unknown option or a message that is none, "disposed".
   */
  createChat(options: ChatOptions = {}): Chat {
    return new Chat(this.#core, this.tokenizer, this.#onEvent, options);
  }

  /**
   * A chat that goes on from a snapshot. K/V that the same weights wrote is copied back. Where the weights are others, the tokens are kept and their
   * K/V is computed with the next answer; where the tokenizer is another, the messages are tokenised again. `chat-restored` says which. A snapshot
   * of an earlier version gives its messages only. While a lost device is being replaced, it waits.
   *
   * @throws LlmError "bad-file" or "bytes-truncated" for bytes that are no snapshot; "bad-tokenizer" without a tokenizer; "disposed"; "device-lost"
   * when the device is lost while K/V is copied: the snapshot can be restored again after `device-restored`.
   */
  async restoreChat(snapshot: ChatSnapshot | Uint8Array<ArrayBuffer>): Promise<Chat> {
    const rested = snapshot instanceof ChatSnapshot ? snapshot : await ChatSnapshot.fromBytes(snapshot);
    const chat = this.createChat();
    try {
      const report = await chat.restore(rested);
      this.#onEvent({ type: "chat-restored", ...report });
      return chat;
    } catch (error) {
      chat.dispose();
      throw error;
    }
  }

  /**
   * Continues a text as it is, without a template: prompt and answer together are the whole text, with the space between them if there is one.
   *
   * @throws LlmError "bad-request" for an unknown option or a setting out of range, "bad-tokenizer" without a tokenizer, "disposed". The answer
   * rejects with "bad-request" for a prompt without tokens, with "device-lost" where the device does not come back, and with the signal's reason.
   */
  completeText(prompt: string, options: AnswerOptions = {}): Answer {
    checkText(prompt, "The prompt", "Give a conversation to engine.createChat({ messages }).");
    const { tokenizer } = this;
    const run = new AnswerRun(this.#core, tokenizer, options, { what: "completeText", continuesText: prompt !== "" });
    const sequence = this.#core.createSequence();
    return new Answer(async (emit, signal) => {
      try {
        sequence.append(tokenizer.encode(prompt));
        return await run.generate(sequence, emit, signal);
      } finally {
        this.#core.releaseSequence(sequence);
      }
    }, options.signal);
  }

  /**
   * Continues a list of ids and gives the new ones, the stop token included: for evaluation, without a tokenizer's help. Resolves when its own run
   * is over, whatever else is under way.
   *
   * @throws LlmError "bad-request" for an unknown option, a setting out of range, an empty list, or ids outside the vocabulary; "device-lost" where
   * the device does not come back; "disposed"; the signal's reason.
   */
  async generateIds(ids: readonly number[], options: IdGenerationOptions): Promise<IdGeneration> {
    checkOptions(options, ID_GENERATION_FORMS, "generateIds");
    const { signal, maxTokens, stopIds = [] } = options;
    if (maxTokens === undefined) throw new LlmError("bad-request", "maxTokens is missing; expected a whole number, 0 or more.");
    checkStopIds(stopIds);
    const sampling = resolveSampling(options, this.config.vocabSize);
    const sequence = this.#core.createSequence();
    try {
      sequence.append(ids);
      const stages: number[] = [];
      const onToken = (_: number, stage: number) => stages.push(stage) > 0;
      const result = await this.#core.generate({ sequence, sampling, stopIds, maxTokens, onToken, ...(signal && { signal }) });
      return { ...result, ids: sequence.tokens.slice(ids.length), stages };
    } finally {
      this.#core.releaseSequence(sequence);
    }
  }

  /**
   * The logits of every position of a list of ids, given to `request.onLogits` a chunk at a time; `upgrades` upgrade the engine on the way, as they
   * would in a chat.
   *
   * @throws LlmError "bad-request" for an empty list, ids outside the vocabulary, or more than the context holds; what `upgrade` throws; "disposed";
   * "device-lost": unlike an answer, an evaluation is not retried on the next device.
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

  /** Frees everything on the GPU; answers, snapshots and upgrades under way fail with "disposed". */
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
