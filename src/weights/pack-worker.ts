// The worker's side of Packer: packs one task after another.
import { packMatrix } from "./pack";
import { failedReply, freeBuffers, type PackReply, type PackRequest, wholeBuffers } from "./pack-message";

const scope = self as unknown as DedicatedWorkerGlobalScope;

scope.addEventListener("message", ({ data: { id, task } }: MessageEvent<PackRequest>) => {
  try {
    const matrix = packMatrix(task);
    freeBuffers(task.parts.map(({ bytes }) => bytes));
    reply({ type: "packed", id, matrix }, wholeBuffers([matrix.codes, matrix.scales]));
  } catch (error) {
    reply(failedReply(id, error));
  }
});

reply({ type: "ready" });

function reply(message: PackReply, transfer: ArrayBuffer[] = []): void {
  scope.postMessage(message, transfer);
}
