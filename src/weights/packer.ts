// Packs matrices off the main thread, in a few workers. Where there are none (Node, or a page that forbids them) it packs where it is called.
import { abortReason, LlmError } from "../errors";
import type { PackedMatrix } from "../weight-format";
import { type PackTask, packMatrix } from "./pack";
import { errorOf, type PackReply, type PackRequest, wholeBuffers } from "./pack-message";
import PackWorker from "./pack-worker?worker&inline";

/** No worker could be started: packing goes on without, and holds up the main thread while it lasts. */
export interface PackerEvent {
  readonly type: "worker-unavailable";
  readonly reason: string;
}

export interface PackerOptions {
  /** At most this many workers; unless given, one fewer than the cores, from 1 to 4. They start with the first task. */
  readonly workerCount?: number;
  readonly onEvent?: (event: PackerEvent) => void;
}

// Four workers pack faster than a fast network or disk delivers.
const MAX_WORKERS = 4;

interface Job {
  readonly task: PackTask;
  readonly resolve: (matrix: PackedMatrix) => void;
  readonly reject: (reason: unknown) => void;
  /** Who packs it, once somebody does. */
  worker: Worker | null;
}

export class Packer {
  readonly #options: PackerOptions;
  /** What is not packed yet, in the order of the calls. Ids are what a worker answers with. */
  readonly #jobs = new Map<number, Job>();
  readonly #workers = new Set<Worker>();
  readonly #idle = new Set<Worker>();
  #mode: "unstarted" | "workers" | "inline" | "disposed" = typeof Worker === "undefined" ? "inline" : "unstarted";
  #nextId = 0;

  constructor(options: PackerOptions = {}) {
    this.#options = options;
  }

  /**
   * The packed matrix. Takes the task's bytes over: their buffers go to a worker, and are empty afterwards.
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
    // A worker that is at it already finishes, and nobody waits for its answer.
    const onAbort = () => this.#take(id)?.reject(signal && abortReason(signal));
    signal?.addEventListener("abort", onAbort);
    try {
      this.#advance();
      return await packed;
    } finally {
      signal?.removeEventListener("abort", onAbort);
    }
  }

  /** Ends the workers; what is still to be packed fails with "disposed". Twice is once. */
  dispose(): void {
    this.#mode = "disposed";
    for (const worker of this.#workers) worker.terminate();
    this.#workers.clear();
    for (const job of this.#jobs.values()) job.reject(disposedError());
    this.#jobs.clear();
  }

  /** Gives waiting jobs to idle workers, or packs them here where there are none to come. */
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
    const cores = globalThis.navigator?.hardwareConcurrency || 2; // some hide how many there are
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

  /** A worker that could not start, or that died: what it had is lost, since its bytes are. */
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
