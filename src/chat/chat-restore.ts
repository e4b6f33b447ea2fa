// Decides what of a snapshot an engine can use.
import type { ChatCore } from "./chat-core";
import type { ChatSnapshot } from "./chat-snapshot";

/** From the most to the least: K/V, token ids, text. Each has what follows it too. */
export type RestoredFrom = "kv" | "ids" | "messages";

type Model = Pick<ChatCore, "identity" | "config" | "contextLength">;

/** Ids mean something to the tokenizer that made them only, K/V to the weights that computed it. */
export function usablePart({ identity, kv }: Pick<ChatSnapshot, "identity" | "kv">, model: Model): RestoredFrom {
  const { weights, tokenizer } = model.identity;
  if (identity.tokenizer === null || identity.tokenizer !== tokenizer || !areIdsOf(model, kv.ids)) return "messages";
  // What is longer than the context is answered with "context": pages for it would be taken from other chats in vain.
  return identity.weights === weights && kv.ids.length <= model.contextLength ? "kv" : "ids";
}

function areIdsOf({ config }: Model, ids: readonly number[]): boolean {
  return ids.every((id) => Number.isInteger(id) && id >= 0 && id < config.vocabSize);
}
