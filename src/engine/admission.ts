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
  // A request that has lost a device may be what loses it. They begin one after the other, each when the one before has a token: whichever it is, the
  // others have got on since the last loss.
  if (running.some(({ losses }) => losses > 0)) return -1;
  for (const [index, { sequence }] of waiting.entries()) {
    if (sequence === null) return running.length === 0 ? index : -1;
    if (!isBusy(sequence)) return index;
  }
  return -1;
}
