// The sequences that may hold pages, and whose pages go when the pool is full: those of the one idle for longest.
import type { KvGroup } from "../kv/kv-cache";
import type { Sequence } from "./sequence";

export class Sequences implements Iterable<Sequence> {
  readonly #all = new Set<Sequence>();
  /** How many users each has that rely on its pages. */
  readonly #busy = new Map<Sequence, number>();
  #clock = 0;

  [Symbol.iterator](): Iterator<Sequence> {
    return this.#all.values();
  }

  has(sequence: Sequence): boolean {
    return this.#all.has(sequence);
  }

  /** Keeps the sequence's pages from being taken until the function that it returns is called; marks it as the one used last. */
  occupy(sequence: Sequence): () => void {
    this.#all.add(sequence);
    sequence.lastUsed = ++this.#clock;
    this.#busy.set(sequence, (this.#busy.get(sequence) ?? 0) + 1);
    let isOccupied = true;
    return () => {
      if (!isOccupied) return;
      isOccupied = false;
      const users = (this.#busy.get(sequence) ?? 1) - 1;
      if (users > 0) this.#busy.set(sequence, users);
      else this.#busy.delete(sequence);
    };
  }

  isBusy(sequence: Sequence): boolean {
    return this.#busy.has(sequence);
  }

  /** Room for `positions` of the sequence, with pages of idle sequences where the pool is full. False: there is none. */
  reserve(sequence: Sequence, positions: number): boolean {
    const reserve = () => sequence.ownLastPages() && sequence.reserve(positions);
    if (reserve()) return true;
    const idle = [...this.#all].filter((other) => other !== sequence && other.capacity > 0 && !this.isBusy(other));
    for (const victim of idle.sort((a, b) => a.lastUsed - b.lastUsed)) {
      victim.evict();
      if (reserve()) return true;
    }
    return false;
  }

  /** The sequence that was used last among those with K/V in `groups`. */
  lastUsed(groups: readonly KvGroup[]): Sequence | null {
    const holding = [...this.#all].filter(({ capacity, parts }) => capacity > 0 && parts[0]?.group === groups[0]);
    return holding.reduce<Sequence | null>((last, each) => (last && last.lastUsed > each.lastUsed ? last : each), null);
  }

  /** Every sequence moves to `groups`. What a rebuild has built for them there becomes theirs. */
  follow(groups: readonly KvGroup[]): void {
    for (const sequence of this.#all) sequence.follow(groups);
  }

  /** Frees the sequence's pages. */
  release(sequence: Sequence): void {
    sequence.evict();
    this.#all.delete(sequence);
  }
}
