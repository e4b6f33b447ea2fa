// Crescendo's public API. Everything else may change tomorrow.

export type { ByteEvent, ByteRange, ByteSource } from "./bytes/byte-source";
export { type CacheEntryInfo, cacheEntries, deleteCacheEntry } from "./bytes/opfs-cache";
export type { Answer, AnswerDelta, AnswerSummary } from "./chat/answer";
export type { AnswerOptions } from "./chat/answer-run";
export type { Chat, ChatOptions } from "./chat/chat";
export { ChatSnapshot } from "./chat/chat-snapshot";
export type { Engine, EvaluationUpgrade, IdGeneration, IdGenerationOptions } from "./chat/engine";
export { type EngineEvent, type LoadOptions, loadEngine } from "./chat/load-engine";
export type { TranscriptMessage as ChatMessage } from "./chat/transcript";
export type { DeliverOptions, StageEvent, StageInfo } from "./engine/delivery";
export type { EngineMemory } from "./engine/engine-core";
export type { EngineOptions } from "./engine/engine-options";
export { LlmError, type LlmErrorCode } from "./errors";
export type { FetchOptions, ModelFiles, ModelLocation } from "./repository/model-files";
export type { StageOptions } from "./stages/default-plan";
export type { StagePlan, StageQuality, Unit } from "./stages/plan";
export type { Evaluation, EvaluationRequest } from "./steps/evaluate";
export type { FinishReason, GenerationResult, GenerationTimings } from "./steps/generation-progress";
export type { SamplingSettings } from "./steps/sampling-settings";
export type { KvCarry, UpgradePolicy, UpgradeReport } from "./takeover/upgrader";
export type { Tokenizer } from "./tokens/tokenizer";
export type { TunedProduct, TuningEvent, TuningStore } from "./tuning/gemv-tunings";
export type { ModelConfig } from "./weights/model-config";
