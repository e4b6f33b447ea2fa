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

  /** Changes whenever the pages do; an uploaded table of an older version is stale. */
  get version(): number {
    return this.#version;
  }

  /** Makes room for `positions`. Returns false and changes nothing if the pool has too few free pages. */
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

  /** Frees the pages that lie wholly past `positions`. */
  truncate(positions: number): void {
    const keep = Math.ceil(positions / this.#pool.pageSize);
    if (keep >= this.#pages.length) return;
    // Last page first: the pool reuses the longest idle page, and the beginning of a sequence is worth more than its end.
    for (const page of this.#pages.splice(keep).reverse()) this.#pool.free(page);
    this.#version++;
  }

  /** Appends a page that has other holders. */
  share(page: PageId): void {
    this.#pool.share(page);
    this.#pages.push(page);
    this.#version++;
  }

  /**
   * Makes the page at `index` exclusive to this table, before a write. If others hold the page, it is replaced; the caller copies `from` to `to`.
   * Returns null if nothing is to be done, false if the pool has no page left.
   */
  own(index: number): { readonly from: PageId; readonly to: PageId } | null | false {
    const page = this.#pages[index];
    if (page === undefined) return null;
    if (!this.#pool.isShared(page)) {
      this.#pool.unname(page);
      return null;
    }
    const own = this.#pool.allocate();
    if (own === null) return false;
    this.#pool.free(page);
    this.#pages[index] = own;
    this.#version++;
    return { from: page, to: own };
  }

  release(): void {
    this.truncate(0);
  }
}
