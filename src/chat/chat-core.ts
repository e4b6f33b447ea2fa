// What chats and completions use of the engine.
import type { EngineCore } from "../engine/engine-core";

export type ChatCore = Pick<
  EngineCore,
  "config" | "contextLength" | "stage" | "identity" | "createSequence" | "releaseSequence" | "generate" | "snapshot" | "restore"
>;
