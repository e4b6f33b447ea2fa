// The runtime that answers, with what lives as long as it does.
import { linkAbort } from "../bytes/abort";
import { LlmError } from "../errors";
import type { ChunkPacer } from "../steps/chunk-pacer";
import type { Runtime } from "../steps/runtime";
import type { Upgrader } from "../takeover/upgrader";

export interface Answering {
  readonly runtime: Runtime;
  readonly upgrader: Upgrader;
  readonly pacer: ChunkPacer;
  /** Aborts when it answers no more: its device was lost, or the engine has ended. */
  readonly gone: AbortController;
}

/** Ends `act` with the caller's signal and with the runtime. What fails because the device is lost fails for that reason. */
export async function whileAnswering<T>(
  { runtime, gone }: Answering,
  signal: AbortSignal | undefined,
  act: (ending: AbortSignal) => Promise<T>,
): Promise<T> {
  const ending = linkAbort(signal, gone.signal);
  try {
    return await act(ending.signal);
  } catch (error) {
    if (ending.signal.aborted) throw ending.signal.reason;
    throw error instanceof LlmError ? error : ((await runtime.gpu.lossError()) ?? error);
  } finally {
    ending.unlink();
  }
}

export function isLoss(error: unknown): error is LlmError {
  return error instanceof LlmError && error.code === "device-lost";
}
