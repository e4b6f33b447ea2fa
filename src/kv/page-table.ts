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
    // The last page first: of pages that nobody holds the pool takes those that came first, and a beginning is worth more than what follows it.
    for (const page of this.#pages.splice(keep).reverse()) this.#pool.free(page);
    this.#version++;
  }

  /** Appends a page that others hold too. */
  share(page: PageId): void {
    this.#pool.share(page);
    this.#pages.push(page);
    this.#version++;
  }

  /**
   * Makes the page at `index` the table's own, to be written to. Gives the page that it was where that is still others': its contents are to be
   * copied. Null when nothing is to be done; false when the pool has no page left.
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
