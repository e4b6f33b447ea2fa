// Crescendo's public API. Everything else may change tomorrow.

export type { ByteEvent, ByteRange, ByteSource } from "./bytes/byte-source";
export { type CacheEntryInfo, cacheEntries, deleteCacheEntry } from "./bytes/opfs-cache";
export type { Answer, AnswerDelta, AnswerSummary } from "./chat/answer";
export type { AnswerOptions } from "./chat/answer-run";
export type { Chat, ChatOptions } from "./chat/chat";
export { ChatSnapshot } from "./chat/chat-snapshot";
export type { Engine, EvaluationUpgrade, IdGeneration, IdGenerationOptions } from "./chat/engine";
export { type EngineEvent, type LoadOptions, loadEngine, type ModelLocation } from "./chat/load-engine";
export type { TranscriptMessage as ChatMessage } from "./chat/transcript";
export type { DeliverOptions, StageEvent, StageInfo } from "./engine/delivery";
export type { EngineMemory } from "./engine/engine-core";
export type { EngineOptions } from "./engine/engine-options";
export type { Evaluation, EvaluationRequest } from "./engine/evaluate";
export type { TunedProduct, TuningEvent, TuningStore } from "./engine/gemv-tunings";
export type { FinishReason, GenerationResult, GenerationTimings } from "./engine/generation";
export type { FetchOptions, ModelFiles } from "./engine/model-files";
export type { SamplingSettings } from "./engine/sampling-settings";
export type { KvCarry, UpgradePolicy, UpgradeReport } from "./engine/upgrader";
export { LlmError, type LlmErrorCode } from "./errors";
export type { StageOptions } from "./stages/default-plan";
export type { StagePlan, StageQuality, Unit } from "./stages/plan";
export type { Tokenizer } from "./tokens/tokenizer";
export type { ModelConfig } from "./weights/model-config";
