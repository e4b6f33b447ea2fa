// What a test expects of a failure that callers see: the code, and the words that tell them what is wrong.
import { expect } from "vitest";
import { LlmError, type LlmErrorCode } from "../../src/errors";

/** Fails unless `promise` rejects with an LlmError of this code whose message holds every one of `words`. */
export async function expectLlmError(promise: Promise<unknown>, code: LlmErrorCode, ...words: string[]): Promise<void> {
  const error: unknown = await promise.then(
    () => new Error("it succeeded"),
    (reason: unknown) => reason,
  );
  if (!(error instanceof LlmError)) throw error;
  expect(error.code, error.message).toBe(code);
  for (const word of words) expect(error.message).toContain(word);
}
