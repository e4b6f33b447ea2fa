// Brings a sequence's K/V back from a snapshot, as far as it goes; what is missing is computed when the sequence is next used.

import type { Gpu } from "../gpu/device";
import { decideKvCarry, type LayerDecision } from "../kv/kv-carry";
import { findRestorable, type KvSnapshot, restorePages, takeKvSnapshot } from "../kv/kv-snapshot";
import type { Sequence, SequenceKv } from "../steps/sequence";

export interface RestoreReport {
  /** What became of each layer's K/V. */
  readonly layers: readonly LayerDecision[];
  readonly restoredBytes: number;
}

/** A copy of the sequence's K/V. It must not run until this resolves. */
export function snapshotSequence(gpu: Gpu, sequence: Sequence, signal?: AbortSignal): Promise<KvSnapshot> {
  const held = sequence.parts.map(({ group, table, cachedLength, recordedLength }) => ({
    group,
    pages: table.pages,
    cachedLength,
    recordedLength,
  }));
  return takeKvSnapshot(gpu, held, [...sequence.tokens], { signal });
}

/**
 * A copy of what an upgrade from `boundary` on will keep, as far as pages are full: those are written to no more, so that the sequence may run
 * meanwhile. Null where there is nothing.
 */
export async function snapshotFront(gpu: Gpu, sequence: Sequence, boundary: number, signal?: AbortSignal): Promise<KvSnapshot | null> {
  const { revision } = sequence;
  const kept = sequence.parts.filter(({ group }) => group.end <= boundary);
  const fullLength = ({ group, cachedLength }: SequenceKv) => cachedLength - (cachedLength % group.layout.pageSize);
  const length = Math.min(...kept.map(fullLength));
  if (kept.length === 0 || length === 0) return null;
  const held = kept.map(({ group, table, recordedLength }) => ({
    group,
    pages: table.pages,
    cachedLength: length,
    recordedLength: Math.min(length, recordedLength),
  }));
  const snapshot = await takeKvSnapshot(gpu, held, sequence.tokens.slice(0, length), { gentle: true, signal });
  // What was forgotten meanwhile may have been written over before it was copied.
  return sequence.revision === revision ? snapshot : null;
}

/**
 * `reserve` makes room for positions of the sequence; where there is none, its K/V is computed. It must not run until this resolves. Throws as
 * `Uploads.write` does; what was restored by then stays.
 */
export async function restoreSequence(
  gpu: Gpu,
  sequence: Sequence,
  snapshot: KvSnapshot,
  reserve: (positions: number) => boolean,
  signal?: AbortSignal,
): Promise<RestoreReport> {
  const found = sequence.parts.map(({ group }) => findRestorable(snapshot, group, sequence.tokens));
  const layers = sequence.parts.flatMap(({ group, cachedLength }, index) =>
    group.layers.map((layer) => ({ layer, isSameFunction: true, populated: cachedLength, saved: found[index]?.length ?? 0 })),
  );
  const decisions = decideKvCarry(layers, sequence.tokens.length);
  let restoredBytes = 0;
  if (!reserve(Math.max(0, ...decisions.map(({ positions }) => positions)))) return { layers: decideKvCarry([], 0), restoredBytes };
  const { revision } = sequence;
  await gpu.uploads.during(async () => {
    for (const [index, part] of sequence.parts.entries()) {
      const restorable = found[index];
      const decision = decisions.find(({ layer }) => layer === part.group.layers[0]);
      if (!restorable || decision?.carry !== "restore") continue;
      restoredBytes += await restorePages(gpu, part.group, part.table.pages, restorable, signal);
      if (sequence.revision !== revision) return; // it was released meanwhile, its pages with it
      part.markRestored(decision.positions, restorable.recordedLength);
    }
  });
  return { layers: decisions, restoredBytes };
}
