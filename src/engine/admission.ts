// Which of the requests that wait may begin: a pure decision. First come, first served, but for a request whose sequence is in use.
import type { Sequence } from "../steps/sequence";

/** What waits: a run, or work that wants the engine for itself. */
export interface Waiting {
  /** Null for work that runs alone. */
  readonly sequence: Sequence | null;
  /** Devices lost since its last token. */
  readonly losses: number;
}

export interface Occupancy {
  /** Runs that have begun, with the devices that each has lost since its last token. */
  readonly running: readonly { readonly losses: number }[];
  readonly batchSize: number;
  /** An upgrade waits for a pause, or the pool had no room for the request that came last: nobody else begins until a run has ended. */
  readonly isClosed: boolean;
  readonly isBusy: (sequence: Sequence) => boolean;
}

/** The index of the request to begin, or −1. */
export function nextToBegin(waiting: readonly Waiting[], { running, batchSize, isClosed, isBusy }: Occupancy): number {
  if (isClosed || running.length >= batchSize) return -1;
  // A request that has lost a device may be what loses it: it runs by itself until it has a token, and takes no other down with it.
  if (running.some(({ losses }) => losses > 0)) return -1;
  for (const [index, { sequence, losses }] of waiting.entries()) {
    if (sequence === null || losses > 0) return running.length === 0 && !(sequence && isBusy(sequence)) ? index : -1;
    if (!isBusy(sequence)) return index;
  }
  return -1;
}
