// A packing worker on the main thread, for tests of what happens when workers die, hang or are ended.
import { packMatrix } from "../../src/weights/pack";
import { failedReply, type PackReply, type PackRequest } from "../../src/weights/pack-message";

export type WorkerConduct = "packs" | "dies" | "hangs";

/** Takes the place of the global `Worker`: `vi.stubGlobal("Worker", FakeWorker)`. */
export class FakeWorker extends EventTarget {
  static conduct: WorkerConduct = "packs";
  static readonly alive = new Set<FakeWorker>();

  constructor() {
    super();
    FakeWorker.alive.add(this);
    queueMicrotask(() => this.#reply({ type: "ready" }));
  }

  postMessage({ id, task }: PackRequest): void {
    const { conduct } = FakeWorker;
    if (conduct === "hangs") return;
    queueMicrotask(() => {
      if (conduct === "dies") this.dispatchEvent(Object.assign(new Event("error"), { message: "out of memory" }));
      else this.#pack(id, task);
    });
  }

  terminate(): void {
    FakeWorker.alive.delete(this);
  }

  #pack(id: number, task: PackRequest["task"]): void {
    try {
      this.#reply({ type: "packed", id, matrix: packMatrix(task) });
    } catch (error) {
      this.#reply(failedReply(id, error));
    }
  }

  #reply(data: PackReply): void {
    if (FakeWorker.alive.has(this)) this.dispatchEvent(new MessageEvent("message", { data }));
  }
}
