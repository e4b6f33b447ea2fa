// Carries the K/V below an upgrade's boundary over when the upgrade lands between two answers. The K/V stays, or it is restored or recomputed as after a
// rest or a device loss.
import type { ChunkPacer } from "../steps/chunk-pacer";
import { nextSpan } from "../steps/prefill-span";
import type { Runtime } from "../steps/runtime";
import type { Sequence } from "../steps/sequence";
import type { Sequences } from "../steps/sequences";
import { restoreSequence, snapshotSequence } from "./restore";
import { type Carried, KEPT, type KvCarry } from "./upgrader";

export interface CarryHost {
  readonly runtime: Runtime;
  readonly pacer: ChunkPacer;
  readonly sequences: Sequences;
}

/** The sequence must not run until this resolves. */
export async function carryOver(host: CarryHost, sequence: Sequence, carry: KvCarry): Promise<Carried> {
  if (carry === "keep") return KEPT;
  const { runtime, sequences } = host;
  const leave = sequences.occupy(sequence);
  try {
    if (carry === "restore") {
      const snapshot = await snapshotSequence(runtime.gpu, sequence);
      sequence.evict();
      const { restoredBytes } = await restoreSequence(runtime.gpu, sequences, sequence, snapshot);
      return { carry, restoredBytes };
    }
    const length = sequence.cachedLength;
    sequence.evict();
    if (sequences.reserve(sequence, length)) await recompute(host, sequence, length);
    return { carry, restoredBytes: 0 };
  } finally {
    leave();
  }
}

async function recompute({ runtime, pacer, sequences }: CarryHost, sequence: Sequence, length: number): Promise<void> {
  const { stepper, gpu } = runtime;
  for (let span = nextSpan(sequence.parts, length); span; span = nextSpan(sequence.parts, length)) {
    let walk = stepper.walkOf(sequence, span);
    if (!walk) {
      await stepper.prepareWalk(sequence, span);
      walk = stepper.walkOf(sequence, span);
    }
    gpu.checkLive(); // the device may be another engine's too, which would hear of the error
    // Another upgrade landed meanwhile, or there is no room: the next answer computes the rest.
    if (!walk || !sequences.reserve(sequence, length)) return;
    const part = stepper.partOf(sequence, span);
    const rows = pacer.next(span.end - span.start, false, part);
    const startMs = performance.now();
    stepper.submitChunk({ sequence, slot: 0, span, walk, rows, layersPerSubmit: pacer.layersPerSubmit(rows), sampledBefore: 0 });
    sequence.markCached(span.start + rows, span.firstGroup);
    await gpu.workDone();
    pacer.took(rows, performance.now() - startMs, part);
  }
}
