// What a run fails with when its device is lost, whoever notices first.
import { expect, test } from "vitest";
import { EngineRuns } from "../../../src/engine/engine-runs";
import type { LlmError } from "../../../src/errors";
import { deviceLostError, type Gpu } from "../../../src/gpu/device";

const LOSS = { reason: "unknown", message: "it fell down" } as GPUDeviceLostInfo;

/** A device, and what makes it lost. */
function losableGpu() {
  let lose: (info: GPUDeviceLostInfo) => void = () => undefined;
  let error: LlmError | null = null;
  const lost = new Promise<GPUDeviceLostInfo>((resolve) => {
    lose = resolve;
  });
  void lost.then((info) => {
    error = deviceLostError(info, "a test's adapter");
  });
  return { gpu: { lost, lossError: async () => error } as unknown as Gpu, lose: () => lose(LOSS) };
}

/** Fails as a buffer does that is to be read from a lost device. */
async function read(lost: Promise<unknown>): Promise<never> {
  await lost;
  throw new DOMException("", "AbortError");
}

// An answer ended with the AbortError where the loss was heard of before the buffer's failure.
test.each([false, true])(
  "an attempt fails with the loss of its device (heard of first: %s), so that it is tried again on the next",
  async (isFirst) => {
    const { gpu, lose } = losableGpu();
    const runs = new EngineRuns(() => new Promise((recovered) => setTimeout(recovered, 5)));
    if (isFirst) runs.watch(gpu);
    let attempts = 0;
    const attempt = () => runs.attempt(gpu, async () => (attempts++ === 0 ? read(gpu.lost) : "answer"));
    const answer = runs.outlive(attempt, new AbortController().signal);
    if (!isFirst) runs.watch(gpu);
    lose();
    expect(await answer).toBe("answer");
    expect(attempts).toBe(2);
  },
);

test("where nothing recovers, it fails with the loss, now and later", async () => {
  const { gpu, lose } = losableGpu();
  const runs = new EngineRuns(undefined);
  runs.watch(gpu);
  const attempt = runs.attempt(gpu, () => read(gpu.lost));
  lose();
  await expect(attempt).rejects.toMatchObject({ code: "device-lost" });
  await expect(runs.attempt(gpu, async () => "answer")).rejects.toMatchObject({ code: "device-lost" });
});

test("an attempt that its caller gave up fails with the caller's reason", async () => {
  const { gpu } = losableGpu();
  const abort = new AbortController();
  const attempt = new EngineRuns(undefined).attempt(
    gpu,
    (signal) => read(new Promise((go) => signal.addEventListener("abort", go))),
    abort.signal,
  );
  const reason = new Error("enough");
  abort.abort(reason);
  await expect(attempt).rejects.toBe(reason);
});
