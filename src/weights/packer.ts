// Packs matrices off the main thread, in a few workers. Without workers (Node, or a page that forbids them) it packs in the calling thread.
import { abortReason, LlmError } from "../errors";
import type { PackedMatrix } from "../weight-format";
import { type PackTask, packMatrix } from "./pack";
import { errorOf, type PackReply, type PackRequest, wholeBuffers } from "./pack-message";
import PackWorker from "./pack-worker?worker&inline";

/** No worker could be started. Packing continues in the main thread and blocks it. */
export interface PackerEvent {
  readonly type: "worker-unavailable";
  readonly reason: string;
}

export interface PackerOptions {
  /** Maximum number of workers. Default: one fewer than the cores, from 1 to 4. They start with the first task. */
  readonly workerCount?: number;
  readonly onEvent?: (event: PackerEvent) => void;
}

// Four workers pack faster than a fast network or disk delivers.
const MAX_WORKERS = 4;

interface Job {
  readonly task: PackTask;
  readonly resolve: (matrix: PackedMatrix) => void;
  readonly reject: (reason: unknown) => void;
  /** The worker that packs it, once one does. */
  worker: Worker | null;
}

export class Packer {
  readonly #options: PackerOptions;
  /** Jobs that are not packed yet, in call order. A worker answers with the id. */
  readonly #jobs = new Map<number, Job>();
  readonly #workers = new Set<Worker>();
  readonly #idle = new Set<Worker>();
  #mode: "unstarted" | "workers" | "inline" | "disposed" = typeof Worker === "undefined" ? "inline" : "unstarted";
  #nextId = 0;

  constructor(options: PackerOptions = {}) {
    this.#options = options;
  }

  /**
   * Packs a matrix. Takes over the task's bytes: their buffers move to a worker and are empty afterwards.
   *
   * @throws LlmError "bad-weights" when a weight or a scale is not finite, or too large for the format; "disposed"; the signal's reason
   */
  async pack(task: PackTask, signal?: AbortSignal): Promise<PackedMatrix> {
    if (signal?.aborted) throw abortReason(signal);
    if (this.#mode === "disposed") throw disposedError();
    const id = this.#nextId++;
    const packed = new Promise<PackedMatrix>((resolve, reject) => {
      this.#jobs.set(id, { task, resolve, reject, worker: null });
    });
    // A worker that has already started finishes, and its answer is ignored.
    const onAbort = () => this.#take(id)?.reject(signal && abortReason(signal));
    signal?.addEventListener("abort", onAbort);
    try {
      this.#advance();
      return await packed;
    } finally {
      signal?.removeEventListener("abort", onAbort);
    }
  }

  /** Ends the workers; unfinished jobs fail with "disposed". Idempotent. */
  dispose(): void {
    this.#mode = "disposed";
    for (const worker of this.#workers) worker.terminate();
    this.#workers.clear();
    for (const job of this.#jobs.values()) job.reject(disposedError());
    this.#jobs.clear();
  }

  /** Gives waiting jobs to idle workers, or packs them here if no worker can start. */
  #advance(): void {
    if (this.#mode === "unstarted") this.#start();
    for (const [id, job] of this.#jobs) {
      if (job.worker !== null) continue;
      if (this.#mode === "inline") {
        this.#jobs.delete(id);
        packInline(job);
        continue;
      }
      const [worker] = this.#idle;
      if (worker === undefined) return;
      this.#idle.delete(worker);
      job.worker = worker;
      const request: PackRequest = { id, task: job.task };
      worker.postMessage(request, wholeBuffers(job.task.parts.map((part) => part.bytes)));
    }
  }

  #start(): void {
    this.#mode = "workers";
    const cores = globalThis.navigator?.hardwareConcurrency || 2; // some browsers hide the number
    const count = this.#options.workerCount ?? Math.min(MAX_WORKERS, Math.max(1, cores - 1));
    try {
      for (let i = 0; i < count; i++) this.#startWorker();
    } catch (error) {
      if (this.#workers.size === 0) this.#goInline(String(error));
    }
  }

  #startWorker(): void {
    const worker = new PackWorker({ name: "crescendo-pack" });
    worker.addEventListener("message", ({ data }: MessageEvent<PackReply>) => this.#receive(worker, data));
    worker.addEventListener("error", ({ message }) => this.#lose(worker, message || "the page does not allow its script"));
    this.#workers.add(worker);
  }

  #receive(worker: Worker, reply: PackReply): void {
    if (this.#mode === "disposed") return;
    if (reply.type === "packed") this.#take(reply.id)?.resolve(reply.matrix);
    if (reply.type === "failed") this.#take(reply.id)?.reject(errorOf(reply));
    this.#idle.add(worker);
    this.#advance();
  }

  /** A worker could not start, or died. Its job fails, because the job's bytes are lost with it. */
  #lose(worker: Worker, reason: string): void {
    worker.terminate();
    this.#workers.delete(worker);
    this.#idle.delete(worker);
    for (const [id, job] of this.#jobs) {
      if (job.worker === worker) this.#take(id)?.reject(new Error(`crescendo: internal: a packing worker died: ${reason}`));
    }
    if (this.#workers.size === 0 && this.#mode === "workers") this.#goInline(reason);
    this.#advance();
  }

  #goInline(reason: string): void {
    this.#mode = "inline";
    this.#options.onEvent?.({ type: "worker-unavailable", reason });
  }

  #take(id: number): Job | undefined {
    const job = this.#jobs.get(id);
    this.#jobs.delete(id);
    return job;
  }
}

function packInline({ task, resolve, reject }: Job): void {
  try {
    resolve(packMatrix(task));
  } catch (error) {
    reject(error);
  }
}

function disposedError(): LlmError {
  return new LlmError("disposed", "The engine was disposed while its weights were loading.");
}
