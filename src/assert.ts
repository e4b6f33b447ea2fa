// Checks of our own invariants: a failure is our mistake, never the caller's or the file's (those are LlmError).

export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`crescendo: internal: ${message}`);
}

/** The value, which must be there; for lookups whose miss would be our mistake. */
export function present<T>(value: T | null | undefined, what: string): T {
  assert(value !== null && value !== undefined, `${what} is missing`);
  return value;
}
