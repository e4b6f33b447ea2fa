// A word's candidate merges: lowest rank first, leftmost first among equal ranks. A binary heap of numbers.

const PLACES = 2 ** 30; // a key is rank × 2^30 + place; 2^22 ranks fit

export class MergeQueue {
  readonly #heap: number[] = [];

  push(rank: number, place: number): void {
    const heap = this.#heap;
    const key = rank * PLACES + place;
    let at = heap.push(key) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent] ?? 0;
      if (above <= key) break;
      heap[at] = above;
      at = parent;
    }
    heap[at] = key;
  }

  pop(): { readonly rank: number; readonly place: number } | null {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined) return null;
    if (heap.length > 0) this.#sink(last);
    return { rank: Math.floor(first / PLACES), place: first % PLACES };
  }

  /** Replaces the first key by `key`. */
  #sink(key: number): void {
    const heap = this.#heap;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if ((heap[child + 1] ?? Infinity) < (heap[child] ?? Infinity)) child++;
      const below = heap[child] ?? Infinity;
      if (below >= key) break;
      heap[at] = below;
      at = child;
    }
    heap[at] = key;
  }
}
