// Who waits and who runs, in which slot, and whose pages go when the pool is full.
import { LlmError } from "../errors";
import type { FinishReason } from "../steps/generation-progress";
import type { Sequence } from "../steps/sequence";
import { Sequences } from "../steps/sequences";
import { nextToBegin } from "./admission";
import type { Answering } from "./answering";
import { Run } from "./run";

/** Work that has the engine for itself: an evaluation, a measurement. */
export interface Solo {
  readonly sequence: null;
  readonly losses: 0;
  /** Does the work. Never rejects: whoever asked for it hears how it went. */
  readonly act: (answering: Answering) => Promise<void>;
  readonly fail: (reason: unknown) => void;
}

export interface RosterOptions {
  readonly contextLength: number;
  /** Sequences that decode in one step, at most. */
  readonly batchSize: number;
  readonly prefixCache: boolean;
}

// Devices that a request may lose without a token between: once can be chance, twice is the request.
const MAX_LOSSES = 2;

export class Roster {
  readonly sequences = new Sequences();
  readonly #options: RosterOptions;
  readonly #onChange: () => void;
  #waiting: (Run | Solo)[] = [];
  /** In the order that they began. */
  #running: Run[] = [];
  /** The pool had no room for a request: no other begins until pages may be free again. */
  #isPoolFull = false;

  /** `onChange` is called when something may be able to go on. */
  constructor(options: RosterOptions, onChange: () => void) {
    this.#options = options;
    this.#onChange = onChange;
  }

  /** In the order that they began. */
  get running(): readonly Run[] {
    return this.#running;
  }

  add(next: Run | Solo): void {
    this.#waiting.push(next);
    this.#onChange();
  }

  /** False where it does not wait any more. */
  removeWaiting(each: Run | Solo): boolean {
    const index = this.#waiting.indexOf(each);
    if (index >= 0) this.#waiting.splice(index, 1);
    return index >= 0;
  }

  /** The request that begins now: a run has its slot then. Null where none can begin. */
  begin(isClosed: boolean): Run | Solo | null {
    const index = nextToBegin(this.#waiting, {
      running: this.#running,
      batchSize: this.#options.batchSize,
      isClosed: isClosed || this.#isPoolFull,
      isBusy: (sequence) => this.sequences.isBusy(sequence),
    });
    const next = this.#waiting[index];
    if (!next) return null;
    this.#waiting.splice(index, 1);
    if (!(next instanceof Run)) return next;
    next.begin(this.#freeSlot(), this.sequences.occupy(next.sequence));
    this.#running.push(next);
    return next;
  }

  /** The runs that decode on, each with a page for its next position. Where the pool is full, those that began last give theirs up. */
  decoding(): readonly Run[] {
    const wantsStep = (run: Run) => run.wantsStep(this.#options.contextLength);
    for (const run of [...this.#running]) {
      if (!wantsStep(run)) continue;
      const reserve = () => this.sequences.reserve(run.sequence, run.position + 1);
      let hasRoom = reserve();
      for (let last = this.#running.at(-1); !hasRoom && last && last !== run; last = this.#running.at(-1)) {
        this.#putBack(last);
        this.#isPoolFull = true;
        hasRoom = reserve();
      }
      if (!hasRoom) this.lackRoom(run);
    }
    return this.#running.filter(wantsStep);
  }

  /** The pool has no room for the run. It waits for others to end; where there are none, its context is full. */
  lackRoom(run: Run): void {
    const others = [...this.sequences].filter((sequence) => sequence !== run.sequence);
    if (others.some((sequence) => this.sequences.isBusy(sequence))) {
      this.#putBack(run);
      this.#isPoolFull = true;
    } else run.isOutOfRoom = true;
  }

  /** Ends the runs that can have no more tokens, once all those under way have come. */
  finishDone(): void {
    for (const run of [...this.#running]) {
      if (run.state !== "decode" || run.hasPending || run.wantsStep(this.#options.contextLength)) continue;
      this.finish(run, run.progress.said >= run.request.maxTokens ? "length" : "context");
    }
  }

  finish(run: Run, reason: FinishReason): void {
    this.#leave(run);
    run.finish(reason);
  }

  fail(run: Run, reason: unknown): void {
    if (run.state === "over") return;
    this.removeWaiting(run);
    this.#leave(run);
    run.fail(reason);
  }

  /** The device is lost: what ran waits for the next one, or ends where it has lost too many. */
  lose(loss: LlmError, adapterName: string): void {
    for (const run of [...this.#running].reverse()) {
      this.#putBack(run);
      if (++run.losses >= MAX_LOSSES) this.fail(run, lostTooOften(loss, adapterName));
    }
    this.#isPoolFull = false;
  }

  /** Frees the sequence's pages. What is asked of it fails with `reason`. */
  release(sequence: Sequence, reason: unknown): void {
    for (const each of [...this.#waiting, ...this.#running]) {
      if (each instanceof Run && each.sequence === sequence) this.fail(each, reason);
    }
    this.sequences.release(sequence);
    this.pagesMayBeFree();
  }

  failAll(reason: unknown): void {
    for (const run of [...this.#running]) this.fail(run, reason);
    for (const each of this.#waiting.splice(0)) each.fail(reason);
  }

  pagesMayBeFree(): void {
    this.#isPoolFull = false;
    this.#onChange();
  }

  #freeSlot(): number {
    const taken = new Set(this.#running.map(({ slot }) => slot));
    let slot = 0;
    while (taken.has(slot)) slot++;
    return slot;
  }

  /** The run gives its slot and pages up, and waits in front of the others. */
  #putBack(run: Run): void {
    this.#leave(run);
    run.sequence.evict();
    run.state = "waiting";
    this.#waiting.unshift(run);
  }

  /** Its sequence is left with the K/V that is valid. */
  #leave(run: Run): void {
    const index = this.#running.indexOf(run);
    if (index < 0) return;
    this.#running.splice(index, 1);
    run.end();
    if (this.#options.prefixCache) run.sequence.publishPrefix();
    this.pagesMayBeFree();
  }
}

function lostTooOften(loss: LlmError, adapterName: string): LlmError {
  return new LlmError(
    "device-lost",
    `The graphics device (${adapterName}) was lost ${MAX_LOSSES} times on this request without a token between: it was given up. ` +
      "Send a shorter prompt, use a smaller model, or update the graphics driver.",
    { cause: loss },
  );
}
