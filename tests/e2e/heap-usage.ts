// How much JavaScript memory a page and its workers hold, from Chromium's DevTools protocol: objects, array buffers and what the browser
// keeps for them, garbage that is not collected yet included.
import type { CDPSession, Page } from "@playwright/test";

interface HeapUsage {
  readonly usedSize: number;
  readonly embedderHeapUsedSize: number;
  readonly backingStorageSize: number;
}

const WORKER_ANSWER_MS = 200; // one that packs answers when it is done

export class HeapUsageMeter {
  readonly #session: CDPSession;
  readonly #workers = new Set<string>();
  readonly #asked = new Map<number, (bytes: number) => void>();
  #nextId = 0;

  private constructor(session: CDPSession) {
    this.#session = session;
  }

  /** Workers that start from now on count too. */
  static async of(page: Page): Promise<HeapUsageMeter> {
    const session = await page.context().newCDPSession(page);
    const meter = new HeapUsageMeter(session);
    session.on("Target.attachedToTarget", ({ sessionId }) => meter.#workers.add(sessionId));
    session.on("Target.detachedFromTarget", ({ sessionId }) => meter.#workers.delete(sessionId));
    session.on("Target.receivedMessageFromTarget", ({ message }) => meter.#receive(message));
    // Unflattened, so that messages to workers go through the page's session, the only one that Playwright gives.
    await session.send("Target.setAutoAttach", { autoAttach: true, waitForDebuggerOnStart: false, flatten: false });
    return meter;
  }

  get workerCount(): number {
    return this.#workers.size;
  }

  async collectGarbage(): Promise<void> {
    await this.#session.send("HeapProfiler.collectGarbage");
  }

  /** Bytes, of the page and of each worker that answers in time. */
  async bytes(): Promise<number> {
    const workers = [...this.#workers].map((worker) => this.#workerBytes(worker));
    const page = total((await this.#session.send("Runtime.getHeapUsage")) as HeapUsage);
    return (await Promise.all(workers)).reduce((sum, bytes) => sum + bytes, page);
  }

  /** The most that was held while `task` ran, asked for over and over, and how often that was. */
  async peakOf(task: Promise<unknown>): Promise<{ readonly bytes: number; readonly sampleCount: number; readonly workerCount: number }> {
    let isOver = false;
    const over = task.finally(() => {
      isOver = true;
    });
    let [bytes, sampleCount, workerCount] = [0, 0, 0];
    while (!isOver) {
      bytes = Math.max(bytes, await this.bytes());
      workerCount = Math.max(workerCount, this.workerCount);
      sampleCount++;
    }
    await over;
    return { bytes, sampleCount, workerCount };
  }

  async #workerBytes(sessionId: string): Promise<number> {
    const id = this.#nextId++;
    const answer = new Promise<number>((resolve) => {
      this.#asked.set(id, resolve);
      setTimeout(resolve, WORKER_ANSWER_MS, 0);
    });
    const message = JSON.stringify({ id, method: "Runtime.getHeapUsage" });
    // A worker may end meanwhile; then it holds nothing.
    await this.#session.send("Target.sendMessageToTarget", { sessionId, message }).catch(() => this.#asked.get(id)?.(0));
    return answer.finally(() => this.#asked.delete(id));
  }

  #receive(message: string): void {
    const { id, result } = JSON.parse(message) as { id: number; result?: HeapUsage };
    this.#asked.get(id)?.(result ? total(result) : 0);
  }
}

function total({ usedSize, embedderHeapUsedSize, backingStorageSize }: HeapUsage): number {
  return usedSize + embedderHeapUsedSize + backingStorageSize;
}
