// How far an answer has come, over all attempts at it: the device may be lost, or its pages taken, in between.

/** Why a run ended: a stop token or string, the token limit, the context's end. An abort throws instead. */
export type FinishReason = "stop" | "length" | "context";

export interface GenerationTimings {
  /** Tokens whose K/V was there already. */
  readonly cachedTokens: number;
  /** Tokens that were prefilled. */
  readonly prefillTokens: number;
  readonly generatedTokens: number;
  /** From the moment the engine took the request up to its first token. */
  readonly timeToFirstTokenMs: number;
  readonly prefillTokensPerSecond: number;
  /** After the first token; 0 where there was no second one. */
  readonly decodeTokensPerSecond: number;
}

export interface GenerationResult extends GenerationTimings {
  readonly finishReason: FinishReason;
}

export class GenerationProgress {
  #startMs: number | null = null;
  #firstTokenMs = 0;
  #lastTokenMs = 0;
  #tokens = 0;

  /** The engine takes the request up. Later attempts count from the first one. */
  start(): void {
    this.#startMs ??= performance.now();
  }

  /** Tokens so far. */
  get said(): number {
    return this.#tokens;
  }

  /** A token came. Gives the time since the one before, or null for the first. */
  token(): number | null {
    const nowMs = performance.now();
    const intervalMs = nowMs - this.#lastTokenMs;
    this.#lastTokenMs = nowMs;
    if (this.#tokens++ > 0) return intervalMs;
    this.#firstTokenMs = nowMs;
    return null;
  }

  timings(cachedTokens: number, prefillTokens: number): GenerationTimings {
    const timeToFirstTokenMs = this.#tokens > 0 ? this.#firstTokenMs - (this.#startMs ?? this.#firstTokenMs) : 0;
    const decodeMs = this.#lastTokenMs - this.#firstTokenMs;
    return {
      cachedTokens,
      prefillTokens,
      generatedTokens: this.#tokens,
      timeToFirstTokenMs,
      prefillTokensPerSecond: timeToFirstTokenMs > 0 ? (1000 * prefillTokens) / timeToFirstTokenMs : 0,
      decodeTokensPerSecond: decodeMs > 0 ? (1000 * (this.#tokens - 1)) / decodeMs : 0,
    };
  }
}
