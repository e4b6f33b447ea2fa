// What runs on an engine, one after the other, and what ends it: its caller, the device's loss, the engine's end.
import { abortable, type LinkedAbort, linkAbort } from "../bytes/abort";
import { LlmError } from "../errors";
import { deviceLostError, type Gpu } from "../gpu/device";
import { RunQueue } from "./run-queue";

export class EngineRuns {
  readonly #queue = new RunQueue();
  readonly #recover: ((loss: LlmError) => Promise<void>) | undefined;
  readonly #runs = new Set<LinkedAbort>();
  /** What ends with the device that it runs on. */
  readonly #attempts = new Set<LinkedAbort>();
  /** Resolves when there is a device again; null while there is one. */
  #recovery: Promise<void> | null = null;
  /** Why no run can be: the engine was disposed of, or its device lost for good. */
  #end: LlmError | null = null;

  /** `recover` gets the engine another device; where it rejects, and where there is none, a loss is the end. */
  constructor(recover: ((loss: LlmError) => Promise<void>) | undefined) {
    this.#recover = recover;
  }

  /** @throws the engine's end, if it has come. */
  checkAlive(): void {
    if (this.#end) throw this.#end;
  }

  watch(gpu: Gpu): void {
    void gpu.lost.then((info) => this.#lose(deviceLostError(info, gpu.adapterName)));
  }

  /** When all before is over. */
  afterOthers<T>(task: () => Promise<T>): Promise<T> {
    return this.#queue.run(task);
  }

  /** `task` runs when those asked for before are over. Its signal aborts as the caller's does, and when the engine's end has come. */
  async run<T>(task: (signal: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T> {
    this.checkAlive();
    const run = linkAbort(signal);
    this.#runs.add(run);
    try {
      return await this.#queue.run(async () => {
        await abortable(this.#recovery ?? Promise.resolve(), run.signal);
        return task(run.signal);
      }, run.signal);
    } catch (error) {
      throw this.#end ?? error;
    } finally {
      this.#runs.delete(run);
      run.unlink();
    }
  }

  /** `task`'s signal aborts with the loss of the device too. What fails because of it fails for that reason, whatever noticed. */
  async attempt<T>(gpu: Gpu, task: (signal: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T> {
    this.checkAlive();
    const attempt = linkAbort(signal);
    this.#attempts.add(attempt);
    try {
      return await task(attempt.signal);
    } catch (error) {
      if (this.#end) throw this.#end;
      if (attempt.signal.aborted) throw attempt.signal.reason;
      throw error instanceof LlmError ? error : ((await gpu.lossError()) ?? error);
    } finally {
      this.#attempts.delete(attempt);
      attempt.unlink();
    }
  }

  /** Tries again on the next device what failed with the loss of one. */
  async outlive<T>(attempt: () => Promise<T>, signal: AbortSignal): Promise<T> {
    for (;;) {
      try {
        return await attempt();
      } catch (error) {
        if (signal.aborted || !(error instanceof LlmError && error.code === "device-lost")) throw error;
        await Promise.resolve(); // the loss is known; that the engine recovers is, a moment later
        if (!this.#recovery) throw error;
        await abortable(this.#recovery, signal);
        this.checkAlive();
      }
    }
  }

  /** Everything fails with `error`, now and from now on. The first end stays. */
  endAll(error: LlmError): void {
    this.#end ??= error;
    for (const run of [...this.#runs, ...this.#attempts]) run.abort(this.#end);
  }

  #lose(error: LlmError): void {
    if (this.#end || !this.#recover) {
      this.endAll(error);
      return;
    }
    this.#recovery = this.#recover(error).then(
      () => {
        this.#recovery = null;
      },
      (failure: unknown) => this.endAll(failure instanceof LlmError ? failure : error),
    );
    for (const attempt of this.#attempts) attempt.abort(error);
  }
}
