// Tracks the pages of a group's pool: free, held by how many sequences, or named so that their K/V can be found again. Knows no GPU.
import { assert } from "../assert";

declare const brand: unique symbol;
/** Index of a page in the pool. */
export type PageId = number & { readonly [brand]: "PageId" };

export class PagePool {
  readonly pageCount: number;
  /** Token positions in a page. */
  readonly pageSize: number;
  readonly #free: PageId[] = [];
  /** Number of holders of each page. */
  readonly #holders: Uint32Array;
  /** Pages whose contents have a name, with a callback for when the page is reused. */
  readonly #named = new Map<PageId, () => void>();
  /** Named pages without a holder, the longest idle first. */
  readonly #idle = new Set<PageId>();

  constructor(pageCount: number, pageSize: number) {
    this.pageCount = pageCount;
    this.pageSize = pageSize;
    this.#holders = new Uint32Array(pageCount);
    for (let page = pageCount - 1; page >= 0; page--) this.#free.push(page as PageId);
  }

  /** Pages that can be allocated. */
  get freeCount(): number {
    return this.#free.length + this.#idle.size;
  }

  /** A page without other holders, or null when the pool is full. Its contents are undefined. */
  allocate(): PageId | null {
    const page = this.#free.pop() ?? this.#takeIdle();
    if (page === null) return null;
    this.#holders[page] = 1;
    return page;
  }

  /** Adds a holder to a page. */
  share(page: PageId): void {
    const holders = this.#holders[page] ?? 0;
    assert(holders > 0 || this.#idle.has(page), `page ${page} is shared but not in use`);
    this.#idle.delete(page);
    this.#holders[page] = holders + 1;
  }

  free(page: PageId): void {
    const holders = this.#holders[page] ?? 0;
    assert(holders > 0, `page ${page} is freed but not in use`);
    this.#holders[page] = holders - 1;
    if (holders > 1) return;
    if (this.#named.has(page)) this.#idle.add(page);
    else this.#free.push(page);
  }

  isShared(page: PageId): boolean {
    return (this.#holders[page] ?? 0) > 1;
  }

  /** Marks the page's contents as named. They then survive without a holder until the pool needs the page. */
  name(page: PageId, onForgotten: () => void): void {
    this.#named.set(page, onForgotten);
  }

  /** Drops the page's name, because the page is about to be written. */
  unname(page: PageId): void {
    this.#named.get(page)?.();
    this.#named.delete(page);
  }

  #takeIdle(): PageId | null {
    const [page] = this.#idle;
    if (page === undefined) return null;
    this.#idle.delete(page);
    this.unname(page);
    return page;
  }
}
