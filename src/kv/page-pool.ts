// Which pages of a group's pool are in use, by how many sequences, and which hold K/V that is worth finding again. Knows no GPU.
import { assert } from "../assert";

declare const brand: unique symbol;
/** Index of a page in the pool. */
export type PageId = number & { readonly [brand]: "PageId" };

export class PagePool {
  readonly pageCount: number;
  /** Token positions in a page. */
  readonly pageSize: number;
  readonly #free: PageId[] = [];
  /** How many hold each page. */
  readonly #holders: Uint32Array;
  /** Pages whose contents are known by name, and what to call when they are given to somebody else. */
  readonly #named = new Map<PageId, () => void>();
  /** Named pages that nobody holds, the one that was given up first in front. */
  readonly #idle = new Set<PageId>();

  constructor(pageCount: number, pageSize: number) {
    this.pageCount = pageCount;
    this.pageSize = pageSize;
    this.#holders = new Uint32Array(pageCount);
    for (let page = pageCount - 1; page >= 0; page--) this.#free.push(page as PageId);
  }

  /** Pages that can be had. */
  get freeCount(): number {
    return this.#free.length + this.#idle.size;
  }

  /** A page that nobody else holds, or null when the pool is full. Its contents are whatever was last there. */
  allocate(): PageId | null {
    const page = this.#free.pop() ?? this.#takeIdle();
    if (page === null) return null;
    this.#holders[page] = 1;
    return page;
  }

  /** Holds a page as well as whoever does. */
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

  /** From here on the page's contents have a name, and stay when nobody holds it until there is no other page left. */
  name(page: PageId, onForgotten: () => void): void {
    this.#named.set(page, onForgotten);
  }

  /** The page is about to be written to: its name goes. */
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
