// Says which model computed something: K/V, a snapshot, a measurement.

/** Two engines with equal identities compute the same from the same token ids. */
export interface ModelIdentity {
  /** Of the weights and of what was done to them while loading. */
  readonly weights: string;
  /** Of the vocabulary; null without a tokenizer. */
  readonly tokenizer: string | null;
  /** False where a source has no version: `weights` is then random, so that nothing else matches it. */
  readonly isStable: boolean;
}
