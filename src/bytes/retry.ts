// Trying again what may go better next time: longer waits after each failure, with jitter, and an end to patience.

import { LlmError } from "../errors";
import { sleep } from "./abort";

/** How long to go on with a server that fails. */
export interface Patience {
  /** Tries in a row that bring no byte before giving up. */
  readonly maxAttempts: number;
  /** The wait after the first failure; each further one doubles it. */
  readonly backoffMs: number;
  /** A request that brings no byte for so long counts as failed. */
  readonly stallMs: number;
}

// Six tries wait some 15 s in all: a router's restart or a change of network, not an outage.
export const DEFAULT_PATIENCE: Patience = { maxAttempts: 6, backoffMs: 500, stallMs: 30_000 };

const MAX_DELAY_MS = 60_000; // a longer Retry-After is asked again each minute, so that a person sees it go on

/** A failure that a later try may not meet: no network, a cut, a server too busy. */
export class RetryableError extends Error {
  /** The LlmError code once patience ends. */
  readonly code: "fetch-failed" | "bytes-truncated";
  readonly retryAfterMs: number | undefined;

  constructor(
    code: "fetch-failed" | "bytes-truncated",
    message: string,
    options: { readonly cause?: unknown; readonly retryAfterMs?: number | undefined } = {},
  ) {
    super(message, { cause: options.cause });
    this.code = code;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** Whether patience ended without an answer, so that the network or the server is down rather than the file gone. */
export function isUnreachable(error: unknown): error is LlmError {
  return error instanceof LlmError && error.cause instanceof RetryableError;
}

/** Half the doubled wait is certain and half is chance, so that many clients do not come back at one moment. */
export function backoffDelayMs(failureCount: number, backoffMs: number, random: () => number = Math.random): number {
  const full = Math.min(MAX_DELAY_MS, backoffMs * 2 ** (failureCount - 1));
  return full / 2 + (full / 2) * random();
}

export interface RetryOptions {
  /** What is read, for the error. */
  readonly name: string;
  readonly patience: Patience;
  readonly signal: AbortSignal | undefined;
  /** Grows with each byte that is kept: tries are counted anew after progress. */
  readonly progress: () => number;
  readonly onRetry: (retry: { readonly attempt: number; readonly delayMs: number; readonly reason: string }) => void;
}

/**
 * What `attempt` gives, tried again after every `RetryableError`.
 *
 * @throws LlmError of the last RetryableError's code, with that error as cause; anything else `attempt` throws, at once.
 */
export async function retry<T>(options: RetryOptions, attempt: () => Promise<T>): Promise<T> {
  const { patience, progress } = options;
  let failureCount = 0;
  for (let reached = progress(); ; ) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof RetryableError)) throw error;
      failureCount = progress() > reached ? 1 : failureCount + 1;
      reached = progress();
      if (failureCount >= patience.maxAttempts) {
        const tries = failureCount === 1 ? "once" : `${failureCount} times in a row`;
        throw new LlmError(error.code, `${options.name}: ${error.message} (tried ${tries})`, { cause: error });
      }
      const delayMs = Math.min(MAX_DELAY_MS, error.retryAfterMs ?? backoffDelayMs(failureCount, patience.backoffMs));
      options.onRetry({ attempt: failureCount + 1, delayMs, reason: error.message });
      await sleep(delayMs, options.signal);
    }
  }
}
