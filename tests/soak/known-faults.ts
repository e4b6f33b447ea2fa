// Faults that stand, and that a soak would find again and again. Whoever mends one takes its line away.

export interface KnownFault {
  /** What is wrong. */
  readonly fault: string;
  /** An operation that is left out because of it. */
  readonly operation?: string;
  /** How it shows: counted as known. */
  readonly seen?: RegExp;
}

export const KNOWN_FAULTS: readonly KnownFault[] = [];
