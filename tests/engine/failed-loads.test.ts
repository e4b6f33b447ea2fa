// A server that fails, a device without memory, a worker that dies, a load that is aborted: nothing stays on the device, nothing runs on,
// and the next load works.
import { afterEach, describe, expect, test, vi } from "vitest";
import { openHttp } from "../../src/bytes/http-source";
import type { Engine, EngineEvent, LlmErrorCode, ModelFiles } from "../../src/index";
import { failAllocations, replaceMethod } from "../support/device-faults";
import { expectLlmError } from "../support/expect-llm-error";
import { FailingLoads } from "../support/failing-loads";
import { FakeWorker } from "../support/fake-worker";
import { FileServer, type FileServerFaults } from "../support/file-server";

const loads = new FailingLoads();
const ENOUGH = new Error("enough");
const settled = () => new Promise((resolve) => setTimeout(resolve, 20));

afterEach(() => vi.unstubAllGlobals());

describe("a server", () => {
  /** A repository, read with patience for milliseconds. */
  function impatient(server: FileServer): ModelFiles {
    const options = { fetch: server.fetch, maxAttempts: 3, backoffMs: 1 };
    return {
      name: "owner/name",
      weightsFile: null,
      open: async (file, signal) =>
        file in loads.contents ? openHttp(`https://hub.test/${file}`, { ...options, ...(signal && { signal }) }) : null,
    };
  }

  async function failsWith(faults: FileServerFaults, code: LlmErrorCode, ...words: readonly string[]): Promise<void> {
    const server = new FileServer(loads.contents);
    // The header has come by then: it is the weights that fail, in many reads at once.
    const onEvent = ({ type }: EngineEvent) => {
      if (type === "load-start") server.faults = faults;
    };
    await expectLlmError(loads.load(impatient(server), { onEvent }), code, "model.safetensors", ...words);
    loads.expectNothingLeft();
    const askedUntilThen = server.requests.length;
    await settled();
    expect([server.openCount, server.requests.length - askedUntilThen]).toEqual([0, 0]);
    server.faults = {};
    await loads.expectWorks(await loads.load(impatient(server)));
  }

  test("that is down when the weights are read ends the load", () =>
    failsWith({ status: { code: 503 } }, "fetch-failed", "503", "3 times"));

  test("whose connections are always cut ends the load", () => failsWith({ cut: { afterBytes: 0 } }, "bytes-truncated", "cut", "3 times"));

  test("whose file changes while it is read ends the load", () => failsWith({ changedPast: 400_000 }, "bytes-changed", "Load it again"));

  test("that does not have the repository ends the load", async () => {
    const { fetch } = new FileServer({});
    await loads.expectFailure(loads.load("owner/name", { fetch }), "not-found", "owner/name has no model.safetensors", "Check its name");
  });

  test("that refuses ends the load", async () => {
    const server = new FileServer(loads.contents);
    server.faults = { status: { code: 403 } };
    await loads.expectFailure(loads.load("owner/name", { fetch: server.fetch }), "fetch-failed", "403", "token");
  });

  test("whose connections are cut now and then loses nothing, and an event tells of each cut", async () => {
    const server = new FileServer(loads.contents);
    server.faults = { cut: { afterBytes: 20_000, times: 3 } };
    const events: EngineEvent[] = [];
    const onEvent = (event: EngineEvent) => events.push(event);
    await loads.expectWorks(await loads.load("owner/name", { fetch: server.fetch, onEvent }));
    expect(events.filter(({ type }) => type === "fetch-retry").length).toBe(3);
  });

  test("without ranges is read all the same, and an event says so", async () => {
    const server = new FileServer(loads.contents);
    server.faults = { ignoreRanges: true };
    const events: EngineEvent[] = [];
    const onEvent = (event: EngineEvent) => events.push(event);
    await loads.expectWorks(await loads.load("owner/name", { fetch: server.fetch, onEvent }));
    const source = "https://huggingface.co/owner/name/resolve/main/model.safetensors";
    expect(events).toContainEqual({ type: "ranges-unsupported", source });
    expect(server.openCount).toBe(0);
  });
});

describe("a device without memory", () => {
  test.each(["layer 1 keys", "^main x$", "candidates", "result 3", "outer embedding", "layer 1 qkv", "layer 0 attentionNormWeight"])(
    "for %j ends the load",
    async (label) => {
      const mend = failAllocations(loads.device, new RegExp(label));
      const failing = loads.loadIntact().finally(mend);
      await loads.expectFailure(failing, "out-of-memory", "no memory left for", "smaller model or a shorter context");
    },
  );

  test("for so long a context says how long one may be", async () => {
    await loads.expectFailure(loads.loadIntact({ poolLength: 2 ** 24 }), "out-of-memory", "Set contextLength to");
  });

  test("for an evaluation leaves the engine as it was", async () => {
    const engine = await loads.loadIntact();
    const mend = failAllocations(loads.device, /all logits/);
    const evaluation = engine.evaluate({ ids: [1, 2, 3], onLogits: () => undefined }).finally(mend);
    await expectLlmError(evaluation, "out-of-memory", "no memory left for the logits");
    await loads.expectWorks(engine);
  });
});

describe("a packing worker", () => {
  test("that dies ends the load, and all workers with it", async () => {
    vi.stubGlobal("Worker", FakeWorker);
    FakeWorker.conduct = "dies";
    await expect(loads.loadIntact()).rejects.toThrow("a packing worker died: out of memory");
    expect(FakeWorker.alive.size).toBe(0);
    loads.expectNothingLeft();
    FakeWorker.conduct = "packs";
    await loads.expectWorks(await loads.loadIntact());
    expect(FakeWorker.alive.size).toBe(0);
  });

  test("is ended with an aborted load, whatever it is at", async () => {
    vi.stubGlobal("Worker", FakeWorker);
    FakeWorker.conduct = "hangs";
    const abort = new AbortController();
    const loading = loads.loadIntact({ signal: abort.signal });
    await vi.waitFor(() => expect(FakeWorker.alive.size).toBeGreaterThan(0));
    abort.abort(ENOUGH);
    await expect(loading).rejects.toBe(ENOUGH);
    expect(FakeWorker.alive.size).toBe(0);
  });
});

describe("a load that is aborted", () => {
  /** Aborts at the `moment`-th of the load's events, requests and allocations, and says how many of them there were. */
  async function loadAborted(
    moment: number,
  ): Promise<{ readonly outcome: unknown; readonly momentCount: number; readonly server: FileServer }> {
    const abort = new AbortController();
    const server = new FileServer(loads.contents);
    let momentCount = 0;
    const count = () => {
      momentCount++;
      if (momentCount === moment) abort.abort(ENOUGH);
    };
    server.onRequest = count;
    const uncount = replaceMethod(loads.device, "createBuffer", (create: GPUDevice["createBuffer"]) => (descriptor) => {
      count();
      return create(descriptor);
    });
    const loading = loads.load("owner/name", { fetch: server.fetch, onEvent: count, signal: abort.signal });
    const outcome: unknown = await loading.catch((error: unknown) => error);
    uncount();
    return { outcome, momentCount, server };
  }

  // Some 250 loads: half a minute on two idle cores.
  test("at any moment throws the signal's reason and leaves nothing", { timeout: 400_000 }, async () => {
    const { outcome: engine, momentCount } = await loadAborted(Number.POSITIVE_INFINITY);
    await loads.expectWorks(engine as Engine);
    expect(momentCount).toBeGreaterThan(50);
    // The last one is "load-end".
    for (let moment = 1; moment < momentCount; moment++) {
      const { outcome, server } = await loadAborted(moment);
      expect(outcome, `aborted at moment ${moment}`).toBe(ENOUGH);
      expect(server.openCount).toBe(0);
      loads.expectNothingLeft();
    }
    await loads.expectWorks(await loads.loadIntact());
  });

  test("before it begins asks for nothing", async () => {
    const server = new FileServer(loads.contents);
    await expect(loads.load("owner/name", { fetch: server.fetch, signal: AbortSignal.abort(ENOUGH) })).rejects.toBe(ENOUGH);
    expect(server.requests).toEqual([]);
  });

  test("does not wait for what compiles, which then leaves nothing", async () => {
    const abort = new AbortController();
    const compiling: (() => void)[] = [];
    const mend = replaceMethod(loads.device, "createComputePipelineAsync", (compile) => async (descriptor) => {
      const released = new Promise<void>((resolve) => compiling.push(resolve));
      setTimeout(() => abort.abort(ENOUGH)); // once the load waits for this kernel
      await released;
      return compile(descriptor);
    });
    // Matrices cut where no other test cuts them take kernels of their own.
    const maxBindingBytes = 28 << 10;
    await expect(loads.loadIntact({ maxBindingBytes, signal: abort.signal })).rejects.toBe(ENOUGH);
    mend();
    expect(compiling.length).toBeGreaterThan(0);
    loads.expectNothingLeft();
    for (const release of compiling) release();
    await settled();
    loads.expectNothingLeft();
    await loads.expectWorks(await loads.loadIntact({ maxBindingBytes }));
  });
});
