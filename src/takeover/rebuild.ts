// The new K/V of one upgrade, built beside the old: shadow groups, a lane of its own, and each sequence's progress. The old stage answers meanwhile, and
// nothing of it is changed.
import { present } from "../assert";
import type { Gpu } from "../gpu/device";
import type { StepShape } from "../kernels/step-shape";
import type { KvGroup } from "../kv/kv-cache";
import type { LayerState } from "../kv/layer-state";
import type { Lane } from "../model/lane";
import { encodeInput, encodeLayers, type Walk } from "../model/walk";
import { LaneFeed } from "../steps/lane-feed";
import { nextSpan } from "../steps/prefill-span";
import type { Sequence } from "../steps/sequence";
import { submitPass } from "../steps/stepper";

export interface RebuildParts {
  readonly gpu: Gpu;
  readonly lane: Lane;
  readonly layerCount: number;
  /** Groups below this index are kept. */
  readonly firstGroup: number;
  /** The new groups, from that index on. */
  readonly groups: readonly KvGroup[];
  /** The walk through the target's layers, over the kept groups and the new ones. */
  readonly walk: Walk;
  /** The same, but kept groups are read and not written. It is made when a residual is missing. */
  readonly rereadingWalk: () => Promise<Walk>;
}

/** A chunk under way. Its layers from `layer` on are not submitted yet. */
interface Chunk {
  readonly sequence: Sequence;
  readonly revision: number;
  readonly start: number;
  readonly rows: number;
  readonly isReread: boolean;
  readonly walk: Walk;
  layer: number;
}

export class Rebuild {
  readonly #parts: RebuildParts;
  readonly #feed: LaneFeed;
  /** The chunk in the lane. */
  #chunk: Chunk | null = null;
  #rereading: Walk | null = null;
  readonly #sequences = new Set<Sequence>();
  #isAbandoned = false;
  /** Positions computed so far. */
  recomputed = 0;
  /** The positions among them that went through lower layers again, because no residual was recorded. */
  reread = 0;

  constructor(parts: RebuildParts) {
    this.#parts = parts;
    this.#feed = new LaneFeed(parts.gpu, parts.lane, parts.layerCount);
  }

  /** Number of layers that a position goes through, absent ones included. Each is a slice. */
  get layersAbove(): number {
    const { layerCount, groups } = this.#parts;
    return layerCount - present(groups[0], "new group").first;
  }

  /** Number of positions before `length` that the sequence still lacks in the new groups. */
  remaining({ nextParts }: Sequence, length: number): number {
    return length - (nextParts?.at(-1)?.cachedLength ?? 0);
  }

  /** Number of positions that an idle sequence has below the new groups: the most that it can have in them. */
  reach({ parts, cachedLength }: Sequence): number {
    return parts[this.#parts.firstGroup - 1]?.cachedLength ?? cachedLength;
  }

  /** Makes the walk that a missing residual requires. Await it before `advance`, while you hold the sequence. */
  async prepare(sequence: Sequence, length: number): Promise<void> {
    const span = this.#nextSpan(sequence, length);
    if (span && span.sourceGroup < span.firstGroup) this.#rereading ??= await this.#parts.rereadingWalk();
  }

  /**
   * Submits up to `layers` layers of a chunk of at most `rows` positions before `length`. All these positions must be complete in the kept groups, now or
   * by the order of the queue. Returns false if there is nothing to do, or if it needs ids that have not come back from the GPU yet.
   */
  advance(sequence: Sequence, length: number, { rows, layers }: { readonly rows: number; readonly layers: number }): boolean {
    // The rebuild may have been abandoned while the caller awaited `prepare`: its buffers are gone then.
    if (this.#isAbandoned) return false;
    // The lane holds one chunk at a time. A chunk of another sequence, or of positions forgotten meanwhile, begins again when its turn comes.
    if (this.#chunk?.sequence !== sequence || this.#chunk.revision !== sequence.revision) this.#chunk = this.#begin(sequence, length, rows);
    const chunk = this.#chunk;
    if (!chunk) return false;
    const { gpu, layerCount } = this.#parts;
    const shape: StepShape = { rows: chunk.rows, positions: chunk.start + chunk.rows };
    const end = Math.min(layerCount, chunk.layer + layers);
    submitPass(gpu, (pass) => encodeLayers(pass, chunk.walk, shape, chunk.layer, end));
    chunk.layer = end;
    if (end === layerCount) this.#finish(chunk);
    return true;
  }

  /** Whether a chunk of the sequence is under way. */
  isAmid(sequence: Sequence): boolean {
    return this.#chunk?.sequence === sequence && this.#chunk.revision === sequence.revision;
  }

  /** Frees every sequence's new pages. */
  abandon(): void {
    this.#isAbandoned = true;
    for (const sequence of this.#sequences) sequence.dropNext();
  }

  #nextSpan(sequence: Sequence, length: number) {
    const kept = sequence.parts.slice(0, this.#parts.firstGroup).map(({ group, cachedLength, recordedLength }) => ({
      cachedLength: length,
      // Steps of a running sequence record the residuals of new positions as they did of earlier ones.
      recordedLength: group.recordsResidual && recordedLength >= Math.min(cachedLength, length) ? length : recordedLength,
    }));
    const next = sequence.nextParts ?? this.#parts.groups.map(() => ({ cachedLength: 0, recordedLength: 0 }));
    return nextSpan([...kept, ...next], length);
  }

  #begin(sequence: Sequence, length: number, maxRows: number): Chunk | null {
    const { gpu, walk, firstGroup, groups } = this.#parts;
    const span = this.#nextSpan(sequence, length);
    if (!span) return null;
    const isReread = span.sourceGroup < span.firstGroup;
    if (isReread && !this.#rereading) return null;
    const chunkWalk = isReread ? present(this.#rereading, "rereading walk") : walk;
    const firstLayer = [...sequence.parts.slice(0, firstGroup).map(({ group }) => group), ...groups][span.sourceGroup]?.first ?? 0;
    // If it starts from ids, it goes only as far as they are known here.
    const end = firstLayer === 0 ? Math.min(span.end, sequence.tokens.length) : span.end;
    const rows = Math.min(maxRows, end - span.start);
    const next = rows > 0 ? this.#reserve(sequence, length) : null;
    if (!next) return null;
    this.#feed.uploadPages(0, [...sequence.parts.slice(0, firstGroup), ...next]);
    const ids = Array.from({ length: rows }, (_, row) => sequence.tokens[span.start + row] ?? 0);
    this.#feed.beginChunk({ position: span.start, ids, slot: 0, sampledBefore: 0 });
    submitPass(gpu, (pass) => encodeInput(pass, chunkWalk, { rows, positions: span.start + rows }, firstLayer));
    return { sequence, revision: sequence.revision, start: span.start, rows, isReread, walk: chunkWalk, layer: firstLayer };
  }

  /** Null where sequences that share pages in the old pools leave no room for this one apart: it is built when those used after it need theirs no more. */
  #reserve(sequence: Sequence, length: number): readonly LayerState[] | null {
    this.#sequences.add(sequence);
    const parts = sequence.nextParts ?? sequence.beginNext(this.#parts.groups);
    for (const part of parts) {
      if (part.reserve(length)) continue;
      // Those used before it give theirs up: their K/V can be built when they are next used. One way only, or two that run would take turns for ever.
      for (const other of this.#sequences) if (other.lastUsed < sequence.lastUsed) other.dropNext();
      if (!part.reserve(length)) return null;
    }
    return parts;
  }

  #finish({ sequence, start, rows, isReread }: Chunk): void {
    this.#chunk = null;
    for (const part of sequence.nextParts ?? []) if (part.cachedLength <= start) part.append(start + rows);
    this.recomputed += rows;
    if (isReread) this.reread += rows;
  }
}
