// Packer with simulated workers that behave well or badly; tests/engine/packer.test.ts uses the browser's own.
import { afterEach, describe, expect, test, vi } from "vitest";
import { LlmError } from "../../../src/errors";
import { type PackTask, packMatrix } from "../../../src/weights/pack";
import { failedReply, type PackReply, type PackRequest } from "../../../src/weights/pack-message";
import { Packer, type PackerEvent, type PackerOptions } from "../../../src/weights/packer";
import { rowsInOrder } from "../../../src/weights/row-runs";
import { expectLlmError } from "../../support/expect-llm-error";

function floatTask(values: readonly number[]): PackTask {
  const part = {
    where: '"x" in file',
    type: "F32",
    bytes: new Uint8Array(Float32Array.from(values).buffer),
    runs: rowsInOrder(1),
  } as const;
  return { format: "q8", rows: 1, columns: values.length, parts: [part] };
}

/** A worker controlled by the test: it loads and answers on command. */
class StagedWorker extends EventTarget {
  static all: StagedWorker[] = [];
  readonly requests: PackRequest[] = [];
  terminated = false;

  constructor() {
    super();
    StagedWorker.all.push(this);
  }

  postMessage(request: PackRequest, transfer: ArrayBuffer[]): void {
    this.requests.push(structuredClone(request, { transfer }));
  }

  terminate(): void {
    this.terminated = true;
  }

  load(): void {
    this.#send({ type: "ready" });
  }

  fail(message = ""): void {
    this.dispatchEvent(Object.assign(new Event("error"), { message }));
  }

  answer(): void {
    const request = this.requests.shift();
    if (request === undefined) throw new Error("nothing was asked");
    try {
      this.#send({ type: "packed", id: request.id, matrix: packMatrix(request.task) });
    } catch (error) {
      this.#send(failedReply(request.id, error));
    }
  }

  #send(data: PackReply): void {
    if (!this.terminated) this.dispatchEvent(new MessageEvent("message", { data }));
  }
}

function stagedWorkers(options: PackerOptions = {}) {
  vi.stubGlobal("Worker", StagedWorker);
  const events: PackerEvent[] = [];
  const packer = new Packer({ workerCount: 2, onEvent: (event) => events.push(event), ...options });
  return { packer, events };
}

function worker(index: number): StagedWorker {
  const found = StagedWorker.all[index];
  if (found === undefined) throw new Error(`no worker ${index}`);
  return found;
}

afterEach(() => {
  vi.unstubAllGlobals();
  StagedWorker.all = [];
});

describe("without workers", () => {
  test("Node packs in the calling thread, without an event", async () => {
    const events: PackerEvent[] = [];
    const packer = new Packer({ onEvent: (event) => events.push(event) });
    expect(await packer.pack(floatTask([1, 2, 3]))).toEqual(packMatrix(floatTask([1, 2, 3])));
    expect(events).toEqual([]);
    await expectLlmError(packer.pack(floatTask([Number.NaN])), "bad-weights", '"x" in file, row 0');
  });

  test("a page that forbids workers still packs, with a single event", async () => {
    vi.stubGlobal("Worker", function forbidden() {
      throw new DOMException("refused by the Content Security Policy", "SecurityError");
    });
    const events: PackerEvent[] = [];
    const packer = new Packer({ workerCount: 2, onEvent: (event) => events.push(event) });
    expect(await packer.pack(floatTask([1]))).toEqual(packMatrix(floatTask([1])));
    await packer.pack(floatTask([2]));
    expect(events).toEqual([{ type: "worker-unavailable", reason: expect.stringContaining("Content Security Policy") }]);
  });

  test("a page whose workers fail to load packs the jobs that were waiting", async () => {
    const { packer, events } = stagedWorkers();
    const packed = packer.pack(floatTask([1, 2]));
    worker(0).fail();
    expect(events).toEqual([]); // the other one may still come
    worker(1).fail();
    expect(await packed).toEqual(packMatrix(floatTask([1, 2])));
    expect(events).toEqual([{ type: "worker-unavailable", reason: "the page does not allow its script" }]);
  });
});

describe("with workers", () => {
  test("tasks wait until a worker has loaded, and go to idle workers", async () => {
    const { packer } = stagedWorkers();
    const packed = [1, 2, 3].map((value) => packer.pack(floatTask([value])));
    expect(StagedWorker.all.map(({ requests }) => requests.length)).toEqual([0, 0]);
    worker(0).load();
    worker(1).load();
    expect(StagedWorker.all.map(({ requests }) => requests.length)).toEqual([1, 1]);
    worker(1).answer();
    worker(1).answer();
    worker(0).answer();
    expect(await Promise.all(packed)).toEqual([1, 2, 3].map((value) => packMatrix(floatTask([value]))));
  });

  test("bytes are transferred, not copied, unless their buffer is shared", async () => {
    const { packer } = stagedWorkers();
    const whole = floatTask([1, 2]);
    const shared = floatTask([3, 4]);
    const buffer = new Uint8Array(16);
    buffer.set(shared.parts[0]?.bytes ?? [], 8);
    const window = { ...shared, parts: shared.parts.map((part) => ({ ...part, bytes: buffer.subarray(8) })) };
    const packed = [packer.pack(whole), packer.pack(window)];
    worker(0).load();
    worker(1).load();
    expect(whole.parts[0]?.bytes.byteLength).toBe(0);
    expect(buffer.byteLength).toBe(16);
    worker(0).answer();
    worker(1).answer();
    expect(await Promise.all(packed)).toEqual([packMatrix(floatTask([1, 2])), packMatrix(floatTask([3, 4]))]);
  });

  test("errors keep their code and message across threads", async () => {
    const { packer } = stagedWorkers();
    const packed = packer.pack(floatTask([Number.NaN]));
    worker(0).load();
    worker(0).answer();
    await expectLlmError(packed, "bad-weights", '"x" in file, row 0', "finite");
  });

  test("an aborted task ends at once, and its worker continues with the next", async () => {
    const { packer } = stagedWorkers({ workerCount: 1 });
    const abort = new AbortController();
    const running = packer.pack(floatTask([1]), abort.signal);
    const waiting = packer.pack(floatTask([2]), abort.signal);
    const other = packer.pack(floatTask([3]));
    worker(0).load();
    abort.abort(new Error("enough"));
    await expect(running).rejects.toThrow("enough");
    await expect(waiting).rejects.toThrow("enough");
    await expect(packer.pack(floatTask([4]), abort.signal)).rejects.toThrow("enough");
    worker(0).answer();
    worker(0).answer();
    expect(await other).toEqual(packMatrix(floatTask([3])));
    expect(worker(0).requests).toEqual([]);
  });

  test("a worker that dies fails only its own task", async () => {
    const { packer, events } = stagedWorkers();
    const [lost, kept] = [packer.pack(floatTask([1])), packer.pack(floatTask([2]))];
    worker(0).load();
    worker(1).load();
    worker(0).fail("out of memory");
    await expect(lost).rejects.toThrow("out of memory");
    worker(1).answer();
    expect(await kept).toEqual(packMatrix(floatTask([2])));
    expect(events).toEqual([]);
  });

  test("dispose ends the workers, and all running and later tasks fail", async () => {
    const { packer } = stagedWorkers();
    const packed = packer.pack(floatTask([1]));
    worker(0).load();
    packer.dispose();
    packer.dispose();
    await expectLlmError(packed, "disposed");
    await expectLlmError(packer.pack(floatTask([1])), "disposed");
    expect(StagedWorker.all.map(({ terminated }) => terminated)).toEqual([true, true]);
  });

  test("the number of workers is one fewer than the cores, from 1 to 4", () => {
    for (const [cores, count] of [
      [1, 1],
      [2, 1],
      [3, 2],
      [16, 4],
      [undefined, 1],
    ] as const) {
      StagedWorker.all = [];
      vi.stubGlobal("navigator", { hardwareConcurrency: cores });
      vi.stubGlobal("Worker", StagedWorker);
      void new Packer().pack(floatTask([1]));
      expect(StagedWorker.all.length).toBe(count);
    }
  });
});

test("an error that is our own mistake keeps its message and is not an LlmError", () => {
  const reply = failedReply(1, new Error("crescendo: internal: x"));
  expect(reply).toEqual({ type: "failed", id: 1, code: null, message: "crescendo: internal: x" });
  expect(failedReply(1, new LlmError("bad-weights", "y"))).toMatchObject({ code: "bad-weights" });
});
