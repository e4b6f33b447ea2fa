// Brings the stage that answered to another graphics device: its K/V pool and kernels, and its weights, read again.
import { abortable, linkAbort } from "../bytes/abort";
import { deviceLostError, type Gpu } from "../gpu/device";
import type { Runtime } from "../steps/runtime";
import type { Handover } from "../takeover/handover";
import { isLoss } from "./answering";
import { createRuntime, type RuntimeShape, startRuntime } from "./create-runtime";
import type { WeightSupply } from "./weight-supply";

export interface RecoveryPlace {
  readonly anotherGpu: (signal: AbortSignal) => Promise<Gpu>;
  readonly supply: WeightSupply;
  readonly shape: RuntimeShape;
  /** Index of the plan's stage that is to answer again. */
  readonly stage: number;
}

// A device that is lost while weights are read may be the third of three; one that is lost each time is broken.
const MAX_DEVICES = 3;

/** Lands the handover with a runtime that is ready to answer, or fails it. Nothing stays allocated then. */
export async function recover(handover: Handover<Runtime>, place: RecoveryPlace): Promise<void> {
  for (let device = 1; !handover.isOver; device++) {
    try {
      const runtime = await recoverOnce(handover.signal, place);
      if (!handover.land(runtime)) runtime.gpu.dispose();
      return;
    } catch (error) {
      if (handover.isOver || !isLoss(error) || device === MAX_DEVICES) handover.fail(error);
    }
  }
}

async function recoverOnce(signal: AbortSignal, { anotherGpu, supply, shape, stage }: RecoveryPlace): Promise<Runtime> {
  const gpu = await anotherGpu(signal);
  const ending = linkAbort(signal);
  // Operations on a lost device do not fail by themselves.
  void gpu.lost.then((info) => ending.abort(deviceLostError(info, gpu.adapterName)));
  try {
    ending.signal.throwIfAborted();
    const units = shape.plan.stages.slice(0, stage + 1).flatMap((each) => each.units);
    supply.use(gpu);
    // What still compiles when this is called off finds a device that is disposed of.
    const runtime = await abortable(createRuntime(gpu, shape, stage), ending.signal);
    const weights = await supply.loadFirst(units, ending.signal);
    await abortable(startRuntime(runtime, shape.plan, weights), ending.signal);
    if (stage === shape.plan.stages.length - 1) supply.rest(); // nothing is left to load
    return runtime;
  } catch (error) {
    supply.end();
    gpu.dispose();
    throw ending.signal.aborted ? ending.signal.reason : error;
  } finally {
    ending.unlink();
  }
}
