// The engine's one loop: settle what has come back, decide which step comes next, submit it. A step is a chunk of a prompt, or one token for every
// sequence that decodes. Everything that happens between two steps happens here: requests begin and end, upgrades land, reads are held back.
import type { LlmError } from "../errors";
import type { GenerationResult } from "../steps/generation-progress";
import { nextSpan } from "../steps/prefill-span";
import type { RowResult } from "../steps/result-ring";
import type { Runtime } from "../steps/runtime";
import type { Sequence } from "../steps/sequence";
import { carryOver } from "../takeover/carry-over";
import { KEPT } from "../takeover/upgrader";
import { type RowSet, rowsOf, subtractRows, unionRows } from "../weights/row-set";
import { type Answering, isLoss, whileAnswering } from "./answering";
import { Roster, type RosterOptions, type Solo } from "./roster";
import { type GenerationRequest, Run } from "./run";
import { UnderWay } from "./under-way";
import { Wake } from "./wake";

export interface SchedulerOptions extends RosterOptions {
  /** Reads rows of the embedding that a prompt needs, and gives those that are there now. */
  readonly fetchRows: (runtime: Runtime, rows: RowSet, signal: AbortSignal) => Promise<RowSet>;
  /** Holds later stages' reads back until what it returns is called. */
  readonly holdReads: () => () => void;
}

// Devices that work on a sequence may lose before it is given up.
const MAX_LOSSES = 2;

export class Scheduler {
  readonly roster: Roster;
  readonly #options: SchedulerOptions;
  readonly #wake = new Wake();
  /** Null while there is no device. */
  #answering: Answering | null = null;
  readonly #underWay = new UnderWay(() => this.wake());
  #chunksUnderWay = 0;
  #wasChunk = false;
  /** A chunk of an upgrade's rebuild is under way, which nobody's step waits for. */
  #isRebuilding = false;
  #lastDoneMs = 0;
  #letReadsGo: (() => void) | null = null;
  #end: LlmError | null = null;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.roster = new Roster(options, () => this.wake());
    void this.#loop();
  }

  get answering(): Answering | null {
    return this.#answering;
  }

  /** @throws the engine's end, if it has come. */
  checkAlive(): void {
    if (this.#end) throw this.#end;
  }

  /** Something may be able to go on. */
  wake(): void {
    this.#wake.now();
  }

  /** Continues a sequence. @throws LlmError of what it needs; the signal's reason. The sequence keeps what was said by then. */
  async generate(request: GenerationRequest): Promise<GenerationResult> {
    const { signal } = request;
    this.checkAlive();
    signal?.throwIfAborted();
    const run = new Run(request);
    const onAbort = () => this.roster.fail(run, signal?.reason);
    signal?.addEventListener("abort", onAbort);
    this.roster.add(run);
    try {
      return await run.ended;
    } finally {
      signal?.removeEventListener("abort", onAbort);
    }
  }

  /** Runs `act` while nothing else runs: after what was asked for before, and before what is asked for later. Throws as `act` does. */
  async alone<T>(act: (answering: Answering, signal: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T> {
    this.checkAlive();
    signal?.throwIfAborted();
    return new Promise<T>((resolve, reject) => {
      const onAbort = () => this.roster.removeWaiting(solo) && reject(signal?.reason);
      const begin = (answering: Answering) => {
        signal?.removeEventListener("abort", onAbort);
        return whileAnswering(answering, signal, (ending) => act(answering, ending)).then(resolve, reject);
      };
      const solo: Solo = { sequence: null, losses: 0, act: begin, fail: reject };
      signal?.addEventListener("abort", onAbort);
      this.roster.add(solo);
    });
  }

  /** Runs `act` beside others' steps, while nothing else uses the sequence. Where the device is lost, it runs again on the next one. */
  async withSequence<T>(
    sequence: Sequence,
    act: (answering: Answering, signal: AbortSignal) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    for (let losses = 0; ; ) {
      const answering = await this.ready(signal, () => !this.roster.sequences.isBusy(sequence));
      const leave = this.roster.sequences.occupy(sequence);
      try {
        return await whileAnswering(answering, signal, (ending) => act(answering, ending));
      } catch (error) {
        if (!isLoss(error) || this.#end || ++losses >= MAX_LOSSES) throw error;
        this.lose(answering.runtime, error);
      } finally {
        leave();
        this.roster.pagesMayBeFree();
      }
    }
  }

  /** Resolves with what answers, once there is something and `condition` holds. @throws the engine's end; the signal's reason. */
  async ready(signal?: AbortSignal, condition: () => boolean = () => true): Promise<Answering> {
    for (;;) {
      this.checkAlive();
      signal?.throwIfAborted();
      if (this.#answering && condition()) return this.#answering;
      await this.#wake.next(signal);
    }
  }

  /** From the next step on this runtime answers. */
  handOverTo(next: Answering): void {
    this.checkAlive();
    this.#answering = next;
    this.roster.sequences.follow(next.runtime.cache.groups);
    this.wake();
  }

  /** The runtime's device is lost: what ran waits for the next one. Nothing happens where another answers already. */
  lose(runtime: Runtime, loss: LlmError): void {
    const answering = this.#answering;
    if (answering?.runtime !== runtime) return;
    this.#answering = null;
    this.#underWay.drop();
    this.#chunksUnderWay = 0;
    this.#isRebuilding = false;
    this.roster.lose(loss, runtime.gpu.adapterName);
    answering.gone.abort(loss);
    answering.upgrader.fail(loss);
    this.wake();
  }

  /** Everything fails with `error`, now and from now on. The first end stays. */
  endAll(error: LlmError): void {
    if (this.#end) return;
    this.#end = error;
    const answering = this.#answering;
    this.#answering = null;
    this.roster.failAll(error);
    answering?.gone.abort(error);
    answering?.upgrader.fail(error);
    this.#letReadsGo?.();
    this.wake();
  }

  /** What an upgrade does between two chunks of an evaluation, which runs alone. */
  async betweenChunks(answering: Answering, sequence: Sequence): Promise<void> {
    if (await answering.upgrader.isReadyBetweenChunks(sequence)) await this.#commitBetweenRuns(answering, sequence);
    sequence.follow(answering.runtime.cache.groups);
  }

  /** Has all that a sequence's tokens need, and lets an upgrade land that is ready before it runs, alone. */
  async prepare(answering: Answering, sequence: Sequence, signal: AbortSignal, isAlone: () => boolean): Promise<void> {
    const { runtime, upgrader } = answering;
    sequence.follow(runtime.cache.groups);
    const missing = subtractRows(rowsOf(sequence.tokens), runtime.embeddingRows);
    if (missing.length > 0) {
      const fetched = await this.#options.fetchRows(runtime, missing, signal);
      runtime.embeddingRows = unionRows(runtime.embeddingRows, fetched);
    }
    if (!upgrader.hasPending || !isAlone()) return;
    if ((await upgrader.isReadyAtStart(sequence)) && isAlone()) await this.#commitBetweenRuns(answering, sequence);
  }

  async #loop(): Promise<void> {
    while (!this.#end) {
      this.#wake.clear();
      const answering = this.#answering;
      try {
        if (answering && (await this.#advance(answering))) continue;
      } catch (error) {
        if (answering) await this.#failAll(answering, error);
      }
      await this.#wake.wait();
    }
  }

  /** Settles what is done, then begins or submits one thing. False: something must come back or be asked for first. */
  async #advance(answering: Answering): Promise<boolean> {
    this.#underWay.settleDone();
    this.roster.finishDone();
    const next = this.roster.begin(answering.upgrader.awaitsPause);
    this.#holdReads();
    if (next) return this.#begin(answering, next);
    // Chunks of prompts and decode steps take turns.
    if (!this.#wasChunk && (await this.#submitChunk(answering))) return true;
    if (this.#submitDecode(answering)) return true;
    return (await this.#submitChunk(answering)) || this.#advanceUpgrade(answering);
  }

  /** Later stages' reads wait while a run that has begun has no token yet. */
  #holdReads(): void {
    if (this.roster.running.some(({ progress }) => progress.said === 0)) {
      this.#letReadsGo ??= this.#options.holdReads();
    } else {
      this.#letReadsGo?.();
      this.#letReadsGo = null;
    }
  }

  async #begin(answering: Answering, next: Run | Solo): Promise<true> {
    if (!(next instanceof Run)) {
      await next.act(answering);
      return true;
    }
    const started = this.#start(answering, next);
    // An upgrade may land before a run that is alone. Otherwise nobody waits for what this one still lacks.
    if (answering.upgrader.hasPending && this.roster.running.length === 1) await started;
    return true;
  }

  async #start(answering: Answering, run: Run): Promise<void> {
    const { attempt } = run;
    const isCurrent = () => this.#answering === answering && run.attempt === attempt && run.state === "starting";
    const isAlone = () => isCurrent() && this.roster.running.length === 1;
    try {
      await whileAnswering(answering, run.request.signal, (ending) => this.prepare(answering, run.sequence, ending, isAlone));
      if (isCurrent()) this.#beginPrefill(answering, run);
    } catch (error) {
      if (isCurrent()) this.roster.fail(run, error);
    }
    this.wake();
  }

  #beginPrefill({ runtime }: Answering, run: Run): void {
    const { contextLength, prefixCache } = this.#options;
    const { sequence } = run;
    sequence.follow(runtime.cache.groups);
    if (prefixCache) sequence.adoptPrefix();
    // The last token runs again where all are cached: its logits are what the first sampled token comes from.
    sequence.forget(sequence.tokens.length - 1);
    run.beginPrefill();
    this.#prepareBatches(runtime);
    if (run.promptLength >= contextLength) this.roster.finish(run, "context");
    else if (run.request.maxTokens <= run.progress.said) this.roster.finish(run, "length");
    else if (!this.roster.sequences.reserve(sequence, run.promptLength)) this.roster.lackRoom(run);
    if (run.isOutOfRoom) this.roster.finish(run, "context");
  }

  /** A chunk of the first prompt that is not complete; after its last one, the first token. */
  async #submitChunk({ runtime, pacer }: Answering): Promise<boolean> {
    const { stepper, sampler } = runtime;
    const run = this.roster.running.find(({ state }) => state === "prefill");
    if (!run || this.#chunksUnderWay >= pacer.chunksAhead || !stepper.canSample) return false;
    const { sequence, slot, promptLength } = run;
    // An upgrade that has landed since the last chunk brought groups in which the sequence has no pages yet.
    if (!this.roster.sequences.reserve(sequence, promptLength)) {
      this.roster.lackRoom(run);
      if (run.isOutOfRoom) this.roster.finish(run, "context");
      return true;
    }
    const span = nextSpan(sequence.parts, promptLength);
    if (span) {
      const walk = stepper.walkOf(sequence, span);
      if (!walk) {
        await stepper.prepareWalk(sequence, span);
        return true;
      }
      const part = stepper.partOf(sequence, span);
      const rows = pacer.next(span.end - span.start, this.#isDecoding, part);
      const layersPerSubmit = pacer.layersPerSubmit(rows);
      stepper.submitChunk({ sequence, slot, span, walk, rows, layersPerSubmit, sampledBefore: run.progress.said });
      sequence.markCached(span.start + rows, span.firstGroup);
      this.#noteChunk(runtime, (ms) => pacer.took(rows, ms, part));
    }
    this.#wasChunk = true;
    if (nextSpan(sequence.parts, promptLength)) return true;
    sequence.checkpoint();
    const { sampling, stopIds } = run.request;
    sampler.begin(slot, sampling, stopIds, sequence.tokens, run.progress.said);
    run.state = "decode";
    this.#noteSampled(runtime, [run], stepper.submitFirstToken(slot), 0);
    return true;
  }

  get #isDecoding(): boolean {
    return this.roster.running.some(({ state }) => state === "decode");
  }

  /** One token for every run that decodes. False where none can go on now. */
  #submitDecode({ runtime, upgrader }: Answering): boolean {
    if (!runtime.stepper.canSample) return false;
    let rows = this.roster.decoding();
    if (rows.length === 0) return false;
    const verdict = upgrader.beforeStep(rows);
    if (verdict.type === "wait") return false;
    if (verdict.type === "commit") {
      const landing = upgrader.commit();
      this.roster.sequences.follow(runtime.cache.groups);
      landing?.settle(KEPT);
      this.#prepareBatches(runtime);
      rows = this.roster.decoding();
    }
    if (rows.length === 0) return false;
    this.#wasChunk = false;
    this.#noteSampled(runtime, rows, runtime.stepper.submitDecode(rows), verdict.slices);
    return true;
  }

  /** Compiles the kernels of several rows with the first step that will have them. Steps go on as they can meanwhile. */
  #prepareBatches({ model }: Runtime): void {
    if (this.roster.running.length > 1) void model.prepareBatches();
  }

  #noteChunk({ gpu }: Runtime, took: (ms: number) => void): void {
    const startMs = performance.now();
    this.#chunksUnderWay++;
    // Read at once: the chunk is settled later, when the loop is free.
    const done = gpu.workDone().then(() => performance.now());
    this.#underWay.add(done, (doneMs) => {
      this.#chunksUnderWay--;
      took(Math.max(0, doneMs - Math.max(startMs, this.#lastDoneMs)));
      this.#lastDoneMs = doneMs;
    });
  }

  #noteSampled({ stage }: Runtime, runs: readonly Run[], results: Promise<readonly RowResult[]>, slices: number): void {
    const rows = runs.map((run) => ({ run, attempt: run.attempt }));
    for (const run of runs) run.noteSubmitted();
    this.#underWay.add(results, (found) => {
      this.#lastDoneMs = performance.now();
      for (const [row, { run, attempt }] of rows.entries()) {
        const result = found[row];
        const isCurrent = run.attempt === attempt && run.state === "decode";
        if (result && isCurrent) this.#take(run, result, stage, row === 0 ? slices : null);
      }
    });
  }

  /** `slices`: those of a rebuild that went before the step, told once for all its rows. */
  #take(run: Run, result: RowResult, stage: number, slices: number | null): void {
    try {
      const { intervalMs, isOver } = run.take(result, stage);
      if (intervalMs !== null && slices !== null) this.#answering?.upgrader.tokenCame(intervalMs, slices);
      if (isOver && run.state === "decode") this.roster.finish(run, "stop");
    } catch (error) {
      this.roster.fail(run, error);
    }
  }

  /** A chunk of an upgrade's rebuild while nobody runs; the upgrade's commit, once it is ready. */
  async #advanceUpgrade(answering: Answering): Promise<boolean> {
    const { upgrader, runtime } = answering;
    if (this.roster.running.length > 0 || !upgrader.hasPending || this.#isRebuilding) return false;
    const { sequences } = this.roster;
    const sequence = sequences.lastUsed(runtime.cache.groups);
    if (await upgrader.advanceIdle(sequence)) {
      // K/V that is being copied stays where it is.
      await this.#commitBetweenRuns(answering, sequence && sequences.isBusy(sequence) ? null : sequence);
      return true;
    }
    // One chunk at a time: a request that comes meanwhile does not wait for more.
    this.#isRebuilding = true;
    const goOn = () => {
      if (this.#answering === answering) this.#isRebuilding = false;
      this.wake();
    };
    runtime.gpu.workDone().then(goOn, goOn);
    return false;
  }

  async #commitBetweenRuns({ runtime, pacer, upgrader }: Answering, sequence: Sequence | null): Promise<void> {
    const landing = upgrader.commit();
    if (!landing) return;
    const { sequences } = this.roster;
    sequences.follow(runtime.cache.groups);
    let carried = KEPT;
    try {
      if (sequence) carried = await carryOver({ runtime, pacer, sequences }, sequence, landing.carry);
    } finally {
      landing.settle(carried); // the stage has landed in any case; K/V that is missing is computed with the next answer
    }
  }

  /** The loop itself failed: the device is lost, or a fault is ours. That ends the runs, and not the engine. */
  async #failAll({ runtime }: Answering, error: unknown): Promise<void> {
    const loss = isLoss(error) ? error : await runtime.gpu.lossError();
    if (loss) return this.lose(runtime, loss);
    for (const run of [...this.roster.running]) this.roster.fail(run, error);
  }
}
