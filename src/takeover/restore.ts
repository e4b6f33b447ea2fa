// Copies a sequence's K/V to CPU memory and back. Missing K/V is computed when the sequence is next used.

import { LlmError } from "../errors";
import type { Gpu } from "../gpu/device";
import type { KvGroup } from "../kv/kv-cache";
import { decideKvCarry, type LayerDecision } from "../kv/kv-carry";
import { findRestorable, type HeldPages, type KvSnapshot, restorePages, takeKvSnapshot } from "../kv/kv-snapshot";
import type { LayerState } from "../kv/layer-state";
import type { Sequence } from "../steps/sequence";
import type { Sequences } from "../steps/sequences";

export interface RestoreReport {
  /** The outcome for each layer's K/V. */
  readonly layers: readonly LayerDecision[];
  readonly restoredBytes: number;
}

/**
 * A copy of the sequence's K/V. The sequence must not run until this resolves.
 *
 * @throws LlmError "disposed" where the sequence was released meanwhile; "out-of-memory"; the signal's reason.
 */
export async function snapshotSequence(gpu: Gpu, sequence: Sequence, signal?: AbortSignal): Promise<KvSnapshot> {
  const { revision } = sequence;
  const held = sequence.parts.map((part) => part.held());
  const snapshot = await takeHeld(gpu, held, [...sequence.tokens], { signal });
  // Its pages may have been given to another before they were copied.
  if (sequence.revision !== revision) throw new LlmError("disposed", "The conversation was given up while its snapshot was taken.");
  return snapshot;
}

/**
 * Copies the full pages of the K/V that an upgrade from `boundary` on will keep. Full pages are no longer written, so the sequence may run meanwhile. Null
 * if there are none.
 */
export async function snapshotFront(gpu: Gpu, sequence: Sequence, boundary: number, signal?: AbortSignal): Promise<KvSnapshot | null> {
  const { revision } = sequence;
  const kept = sequence.parts.filter(({ group }) => group.end <= boundary);
  const fullLength = ({ group, cachedLength }: LayerState) => cachedLength - (cachedLength % group.layout.pageSize);
  const length = Math.min(...kept.map(fullLength));
  if (kept.length === 0 || length === 0) return null;
  const held = kept.map((part) => part.held(length));
  const snapshot = await takeHeld(gpu, held, sequence.tokens.slice(0, length), { gentle: true, signal });
  // Pages of positions forgotten meanwhile may have been overwritten before they were copied.
  return sequence.revision === revision ? snapshot : null;
}

/**
 * Writes the snapshot's K/V back for the sequence's tokens. Restores nothing if the pool has no room. The sequence must not run until this resolves.
 * Throws as `Uploads.write` does; anything restored by then stays.
 */
export async function restoreSequence(
  gpu: Gpu,
  sequences: Sequences,
  sequence: Sequence,
  snapshot: KvSnapshot,
  signal?: AbortSignal,
): Promise<RestoreReport> {
  const { parts, revision } = sequence;
  const found = parts.map(({ group }) => findRestorable(snapshot, group, sequence.tokens));
  const groups = parts.map(({ cachedLength }, index) => ({
    layer: index, // the group stands for its layers; a group of absent layers still holds residuals
    isSameFunction: true,
    populated: cachedLength,
    saved: found[index]?.length ?? 0,
  }));
  const decisions = decideKvCarry(groups, sequence.tokens.length);
  const layers = parts.flatMap(({ group }, index) =>
    group.layers.flatMap((layer) => {
      const decision = decisions[index];
      return decision ? [{ ...decision, layer }] : [];
    }),
  );
  if (!sequences.reserve(sequence, Math.max(0, ...decisions.map(({ positions }) => positions)))) return { layers: [], restoredBytes: 0 };
  let restoredBytes = 0;
  await whileHeld(
    parts.map(({ group }) => group),
    () =>
      gpu.uploads.during(async () => {
        for (const [index, part] of parts.entries()) {
          const restorable = found[index];
          const decision = decisions[index];
          if (!restorable || decision?.carry !== "restore") continue;
          restoredBytes += await restorePages(gpu, part.group, part.places, restorable, signal);
          if (sequence.revision !== revision) return; // the sequence was released meanwhile, and its pages with it
          part.restored(decision.positions, restorable.recordedLength);
        }
      }),
  );
  return { layers, restoredBytes };
}

function takeHeld(
  gpu: Gpu,
  held: readonly HeldPages[],
  ids: readonly number[],
  options: Parameters<typeof takeKvSnapshot>[3],
): Promise<KvSnapshot> {
  return whileHeld(
    held.map(({ group }) => group),
    () => takeKvSnapshot(gpu, held, ids, options),
  );
}

/** An upgrade that lands meanwhile frees groups. Their buffers stay until this is done. */
async function whileHeld<T>(groups: readonly KvGroup[], act: () => Promise<T>): Promise<T> {
  const releases = groups.map((group) => group.hold());
  try {
    return await act();
  } finally {
    for (const release of releases) release();
  }
}
