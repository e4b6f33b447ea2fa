// Maps a sequence's token positions to pages of the KV pool. Knows no tokens and no GPU.
import type { PageId, PagePool } from "./page-pool";

export class PageTable {
  readonly #pool: PagePool;
  readonly #pages: PageId[] = [];
  #version = 0;

  constructor(pool: PagePool) {
    this.#pool = pool;
  }

  /** The physical page of each logical page, in order. */
  get pages(): readonly PageId[] {
    return this.#pages;
  }

  /** Positions that have a page. */
  get capacity(): number {
    return this.#pages.length * this.#pool.pageSize;
  }

  /** Changes whenever the pages do: what was uploaded before is then stale. */
  get version(): number {
    return this.#version;
  }

  /** Makes room for `positions`; false, with nothing changed, when the pool has too few free pages. */
  reserve(positions: number): boolean {
    const missing = Math.ceil(positions / this.#pool.pageSize) - this.#pages.length;
    if (missing <= 0) return true;
    if (missing > this.#pool.freeCount) return false;
    for (let i = 0; i < missing; i++) {
      const page = this.#pool.allocate();
      if (page === null) return false;
      this.#pages.push(page);
    }
    this.#version++;
    return true;
  }

  /** Gives back the pages that lie wholly past `positions`. */
  truncate(positions: number): void {
    const keep = Math.ceil(positions / this.#pool.pageSize);
    if (keep >= this.#pages.length) return;
    for (const page of this.#pages.splice(keep)) this.#pool.free(page);
    this.#version++;
  }

  release(): void {
    this.truncate(0);
  }
}
