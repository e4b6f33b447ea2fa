// Which pages of the KV pool are free. A page is a fixed run of token positions in every layer's K and V buffers. Knows no GPU.
import { assert } from "../assert";

declare const brand: unique symbol;
/** Index of a page in the pool. */
export type PageId = number & { readonly [brand]: "PageId" };

export class PagePool {
  readonly pageCount: number;
  /** Token positions in a page. */
  readonly pageSize: number;
  readonly #free: PageId[] = [];
  readonly #used: Uint8Array;

  constructor(pageCount: number, pageSize: number) {
    this.pageCount = pageCount;
    this.pageSize = pageSize;
    this.#used = new Uint8Array(pageCount);
    for (let page = pageCount - 1; page >= 0; page--) this.#free.push(page as PageId);
  }

  get freeCount(): number {
    return this.#free.length;
  }

  /** A page that nobody else holds, or null when the pool is full. Its contents are whatever was last there. */
  allocate(): PageId | null {
    const page = this.#free.pop();
    if (page === undefined) return null;
    this.#used[page] = 1;
    return page;
  }

  free(page: PageId): void {
    assert(this.#used[page] === 1, `page ${page} is freed but not in use`);
    this.#used[page] = 0;
    this.#free.push(page);
  }
}
